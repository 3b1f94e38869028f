-- The sessions of a fleet in this database, by name and address. Probes of the supervisor and backups do not count.
SELECT application_name, client_addr::text
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND application_name LIKE 'fleet%' AND application_name NOT IN ('fleet probe', 'fleet backup')
ORDER BY 1
