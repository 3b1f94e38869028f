-- What is queued beyond its agent type's limit, which was set or lowered meanwhile, goes back to ready: the least urgent
-- first. What runs is left to run. Rows that an agent is just taking are passed over.
WITH types AS MATERIALIZED (
    SELECT t.name,
           t.at_once - (SELECT count(*) FROM missions_sortie o
                        WHERE o.agent_type_id = t.name AND o.state = 'running') AS room
    FROM agents_agenttype t
    WHERE t.at_once > 0
), excess AS MATERIALIZED (
    SELECT queued.id
    FROM types CROSS JOIN LATERAL (
        SELECT s.id FROM missions_sortie s
        WHERE s.agent_type_id = types.name AND s.state = 'queued'
        ORDER BY s.priority DESC, s.turn, s.id
        OFFSET greatest(types.room, 0)
    ) AS queued
), held AS (
    SELECT s.id FROM missions_sortie s
    WHERE s.id = ANY (ARRAY(SELECT id FROM excess)) AND s.state = 'queued'
    ORDER BY s.id
    FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE missions_sortie s SET state = 'ready', gated = true, ready_at = clock_timestamp()
    FROM held
    WHERE s.id = held.id AND s.state = 'queued'
    RETURNING s.id, s.mission_id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.ready', mission_id, id, '{"from": "queued", "why": "its agent type''s limit"}' FROM moved
)
SELECT count(*) FROM moved
