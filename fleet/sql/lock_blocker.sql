-- The session that blocks another one; of several, the one with the oldest transaction.
SELECT pid, application_name, usename::text, state, extract(epoch FROM clock_timestamp() - xact_start)::float8
FROM pg_stat_activity
WHERE pid = ANY (pg_blocking_pids(%(pid)s))
ORDER BY xact_start NULLS LAST
LIMIT 1
