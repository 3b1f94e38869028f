-- Queue ready sorties of running missions that are under no limit and reserve nothing.
WITH unlimited AS (
    SELECT s.id
    FROM missions_sortie s
    JOIN missions_mission m ON m.id = s.mission_id
    JOIN agents_agenttype t ON t.name = s.agent_type_id
    WHERE s.state = 'ready' AND m.state = 'running'
      AND s.concurrency_key IS NULL AND m.max_running = 0 AND t.max_running = 0
      AND s.blocked_by_id IS NULL  -- a blocked one waits for a reservation
      AND NOT EXISTS (SELECT FROM missions_reservation r
                      WHERE r.sortie_id = s.id AND r.attempt IS NULL AND r.released_at IS NULL)
      AND (s.wake_at IS NULL OR s.wake_at <= clock_timestamp())
    ORDER BY s.id
    LIMIT %(limit)s
    FOR NO KEY UPDATE OF s SKIP LOCKED
), admitted AS (
    UPDATE missions_sortie s SET state = 'queued', wake_at = NULL, ready_at = clock_timestamp()
    FROM unlimited
    WHERE s.id = unlimited.id
    RETURNING s.id, s.mission_id, s.agent_type_id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.queued', mission_id, id, '{"from": "ready"}' FROM admitted
)
SELECT agent_type_id FROM admitted
