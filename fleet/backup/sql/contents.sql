-- The number of tables, views and sequences in the database, and whether a restore of it was interrupted.
SELECT count(*),
       (SELECT count(*) > 0 FROM pg_class WHERE oid = to_regclass('public.fleet_unfinished_restore'))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S', 'v', 'm') AND c.relname <> 'fleet_unfinished_restore'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_%'
