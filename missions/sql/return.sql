-- Hand claimed sorties back: their drivers never started, or were stopped by a drain. Costs no try.
WITH said AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS t (id, attempt)
), held AS (
    SELECT s.id, m.state = 'paused' AS paused
    FROM missions_sortie s JOIN said ON said.id = s.id JOIN missions_mission m ON m.id = s.mission_id
    WHERE s.state = 'running' AND s.attempt = said.attempt AND NOT s.cancel_requested
    ORDER BY s.id
    FOR UPDATE OF s
), returned AS (
    UPDATE missions_sortie s
    SET state = CASE WHEN held.paused THEN 'ready' ELSE 'queued' END,
        lease_until = NULL, agent_id = NULL, started_at = NULL
    FROM held
    WHERE s.id = held.id
    RETURNING s.id, s.mission_id, s.agent_type_id, s.attempt, s.state
), attempts AS (
    UPDATE missions_attempt a
    SET state = 'returned', finished_at = clock_timestamp(), error = %(why)s
    FROM returned
    WHERE a.sortie_id = returned.id AND a.number = returned.attempt
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.' || state, mission_id, id,
           jsonb_build_object('from', 'running', 'attempt', attempt, 'why', %(why)s::text)
    FROM returned
)
SELECT false AS settled, id, mission_id, agent_type_id, state, false AS bad FROM returned
