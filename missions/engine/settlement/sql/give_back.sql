-- Return claimed sorties whose drivers never started or were stopped by a drain. This costs no try. A sortie with a
-- cancel request is cancelled instead of queued.
WITH returning_attempt AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS t (id, attempt)
), locked AS (
    SELECT s.id,
           CASE WHEN s.cancel_requested OR m.state = 'cancelling' THEN 'cancelled'
                WHEN m.state = 'paused' THEN 'ready'
                ELSE 'queued' END AS state
    FROM missions_sortie s JOIN returning_attempt ON returning_attempt.id = s.id JOIN missions_mission m ON m.id = s.mission_id
    WHERE s.state = 'running' AND s.attempt = returning_attempt.attempt
    ORDER BY s.id
    FOR NO KEY UPDATE OF s
), returned AS (
    UPDATE missions_sortie s
    SET state = locked.state, lease_until = NULL, cancel_requested = false,
        ready_at = CASE locked.state WHEN 'cancelled' THEN s.ready_at ELSE clock_timestamp() END,
        agent_id = CASE locked.state WHEN 'cancelled' THEN s.agent_id END,
        started_at = CASE locked.state WHEN 'cancelled' THEN s.started_at END,
        finished_at = CASE locked.state WHEN 'cancelled' THEN clock_timestamp() END
    FROM locked
    WHERE s.id = locked.id
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
SELECT state = 'cancelled' AS settled, id, mission_id, agent_type_id, state, state = 'cancelled' AS bad FROM returned
