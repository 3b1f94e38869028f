-- Like lease_due_schedule.sql, for a schedule with a waiting tick that may proceed: all of its missions have ended, or
-- its policy is to cancel them and that has not been requested yet.
WITH free AS (
    SELECT s.id FROM missions_schedule s
    WHERE s.id IN (SELECT t.schedule_id FROM missions_tick t WHERE t.outcome = 'waiting')
      AND (s.lease_until IS NULL OR s.lease_until < clock_timestamp()
           OR s.lease_until > clock_timestamp() + make_interval(secs => 2 * %(lease)s))
      AND (s.overlap = 'allow'
           OR NOT EXISTS (
               SELECT FROM missions_mission m
               WHERE m.schedule_id = s.id AND NOT @missions.mission_has_ended(m))
           OR s.overlap = 'cancel' AND EXISTS (
               SELECT FROM missions_mission m
               WHERE m.schedule_id = s.id AND m.state <> 'cancelling' AND NOT @missions.mission_has_ended(m)))
    ORDER BY s.id
    LIMIT 1
    FOR UPDATE OF s SKIP LOCKED
)
UPDATE missions_schedule s SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
FROM free
WHERE s.id = free.id
RETURNING s.id, clock_timestamp()
