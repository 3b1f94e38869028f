-- Make waiting sorties ready whose time has come (a retry's backoff, or a run_at). Admission then queues them.
WITH due AS (
    SELECT s.id FROM missions_sortie s JOIN missions_mission m ON m.id = s.mission_id
    WHERE s.state = 'waiting' AND s.wake_at <= clock_timestamp() AND m.state = 'running'
    ORDER BY s.id
    LIMIT %(limit)s
    FOR NO KEY UPDATE OF s SKIP LOCKED
), woken AS (
    UPDATE missions_sortie s
    SET state = 'ready', wake_at = NULL, waits_on = '', waits_for = '', ready_at = clock_timestamp()
    FROM due
    WHERE s.id = due.id
    RETURNING s.id, s.mission_id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.ready', mission_id, id, '{"from": "waiting"}' FROM woken
)
SELECT count(*) FROM woken
