-- The oldest open transaction of the cluster, if an entry has waited for it too long; else no row.
-- Only a member of pg_read_all_stats sees the transactions of other roles.
SELECT extract(epoch FROM clock_timestamp() - waiting.since)::float8, oldest.*
FROM (
    SELECT min(at) AS since FROM fleet_audit.entry
    WHERE cluster = (SELECT system_identifier FROM pg_control_system())
        AND xid >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint
) AS waiting
LEFT JOIN (
    SELECT pid, application_name, usename::text, datname::text,
           extract(epoch FROM clock_timestamp() - xact_start)::float8
    FROM pg_stat_activity WHERE backend_xid IS NOT NULL
    ORDER BY age(backend_xid) DESC LIMIT 1
) AS oldest ON true
WHERE waiting.since < clock_timestamp() - make_interval(secs => %(seconds)s)
