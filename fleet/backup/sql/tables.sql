-- The tables of the fleet, in the order of their names.
SELECT n.nspname::text, c.relname::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('public', 'fleet_audit') AND c.relkind = 'r' AND c.relname <> 'fleet_unfinished_restore'
ORDER BY 1, 2
