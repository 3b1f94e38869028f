-- Lease the schedule whose tick is the most overdue to one control loop. A lease that ends later than a new one could
-- was granted before the database's clock was set back, and does not count.
WITH due AS (
    SELECT id FROM missions_schedule
    WHERE next_at <= clock_timestamp()
      AND (lease_until IS NULL OR lease_until < clock_timestamp()
           OR lease_until > clock_timestamp() + make_interval(secs => 2 * %(lease)s))
    ORDER BY next_at, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
UPDATE missions_schedule s SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
FROM due
WHERE s.id = due.id
RETURNING s.id, clock_timestamp()
