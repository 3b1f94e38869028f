-- What is queued beyond its agent type's limit, which was set or lowered meanwhile, goes back to ready: the least urgent
-- first. What runs is left to run. Rows that an agent is just taking are passed over.
WITH types AS (
    SELECT t.name,
           t.at_once - (SELECT count(*) FROM missions_sortie o
                        WHERE o.agent_type_id = t.name AND o.state = 'running') AS room
    FROM agents_agenttype t
    WHERE t.at_once > 0
), ranked AS (
    SELECT s.id, types.room,
           row_number() OVER (PARTITION BY s.agent_type_id ORDER BY s.priority DESC, s.turn, s.id) AS place
    FROM missions_sortie s JOIN types ON types.name = s.agent_type_id
    WHERE s.state = 'queued'
), held AS (
    SELECT s.id FROM missions_sortie s
    WHERE s.state = 'queued' AND s.id IN (SELECT id FROM ranked WHERE place > room)
    ORDER BY s.id
    FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE missions_sortie s SET state = 'ready', gated = true
    FROM held
    WHERE s.id = held.id AND s.state = 'queued'
    RETURNING s.id, s.mission_id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.ready', mission_id, id, '{"from": "queued", "why": "its agent type''s limit"}' FROM moved
)
SELECT count(*) FROM moved
