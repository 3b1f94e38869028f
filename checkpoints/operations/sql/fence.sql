-- Take the running sorties of a mission from their agents. They may start again when their leases have ended, or
-- immediately if their node has seen that none of their processes is left.
WITH running AS (
    SELECT s.id, s.lease_until, coalesce(a.reaped, false) AS gone
    FROM missions_sortie s LEFT JOIN agents_agent a ON a.id = s.agent_id
    WHERE s.mission_id = %(mission)s AND s.state = 'running'
), fenced AS (
    UPDATE missions_sortie s
    SET state = CASE WHEN running.gone THEN 'ready' ELSE 'waiting' END,
        waits_on = CASE WHEN running.gone THEN '' ELSE 'time' END,
        wake_at = CASE WHEN running.gone THEN NULL ELSE running.lease_until END,
        waits_for = CASE WHEN running.gone THEN '' ELSE %(waits_for)s END,
        ready_at = clock_timestamp(), lease_until = NULL, cancel_requested = false, agent_id = NULL
    FROM running
    WHERE s.id = running.id
    RETURNING s.id, s.mission_id, s.attempt, s.state, s.wake_at
), attempts AS (
    UPDATE missions_attempt a
    SET state = 'lost', finished_at = clock_timestamp(), error = %(error)s
    FROM fenced
    WHERE a.sortie_id = fenced.id AND a.number = fenced.attempt
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.' || state, mission_id, id,
           jsonb_build_object('from', 'running', 'attempt', attempt, 'why', 'restore', 'checkpoint', %(checkpoint)s::text)
    FROM fenced
)
SELECT id, wake_at FROM fenced
