-- How many tables and sequences the database has in all, and which backup an interrupted restore was putting back.
SELECT count(*),
       (SELECT count(*) > 0 FROM pg_class WHERE oid = to_regclass('public.fleet_unfinished_restore'))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S', 'v', 'm') AND c.relname <> 'fleet_unfinished_restore'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_%'
