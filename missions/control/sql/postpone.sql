-- Ready sorties whose run_at is in the future wait for it.
WITH early AS (
    SELECT s.id FROM missions_sortie s
    WHERE s.state = 'ready' AND s.wake_at > clock_timestamp()
    ORDER BY s.id
    FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
    UPDATE missions_sortie s SET state = 'waiting', waits_on = 'time', waits_for = 'the time set by its plan (run_at)'
    FROM early
    WHERE s.id = early.id
    RETURNING s.id, s.mission_id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.waiting', mission_id, id, '{"from": "ready"}' FROM moved
)
SELECT count(*) FROM moved
