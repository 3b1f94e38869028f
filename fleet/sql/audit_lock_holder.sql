-- The session that has held the advisory lock of the sealing for too long; else no row. How long it has held it is not
-- recorded: it is at most the age of its transaction, or of its last statement if it is idle outside one.
SELECT held_s, pid, application_name, usename::text, datname::text, held_s
FROM pg_locks
JOIN pg_stat_activity USING (pid)
CROSS JOIN LATERAL (
    SELECT extract(epoch FROM clock_timestamp() - coalesce(xact_start, state_change))::float8 AS held_s
) AS age
WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND classid = %(lock)s::bigint >> 32 AND objid = %(lock)s::bigint & 4294967295
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND held_s > %(seconds)s
LIMIT 1
