-- What this session's role could do to the trail besides adding to it; no row where nothing.
SELECT 'it is a superuser' FROM pg_roles WHERE rolname = current_user AND rolsuper
UNION ALL
SELECT format('it is or may become %s, who owns %s', owner, thing)
FROM (
    SELECT pg_get_userbyid(nspowner) AS owner, 'the schema' AS thing, nspowner AS id
    FROM pg_namespace WHERE nspname = 'fleet_audit'
    UNION ALL
    SELECT pg_get_userbyid(relowner), relname, relowner
    FROM pg_class WHERE relnamespace = 'fleet_audit'::regnamespace AND relkind = 'r'
    UNION ALL
    SELECT pg_get_userbyid(proowner), proname || '()', proowner
    FROM pg_proc WHERE pronamespace = 'fleet_audit'::regnamespace
) AS owned
WHERE pg_has_role(current_user, id, 'MEMBER')
UNION ALL
SELECT format('it may %s %s', privilege, relname)
FROM pg_class, unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS privilege
WHERE relnamespace = 'fleet_audit'::regnamespace AND relkind = 'r' AND has_table_privilege(current_user, oid, privilege)
UNION ALL
SELECT format('the trigger that refuses changes of %s is not on', relname)
FROM pg_class
WHERE relnamespace = 'fleet_audit'::regnamespace AND relname IN ('entry', 'seal')
    AND NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = pg_class.oid AND tgname = 'refuse' AND tgenabled = 'A')
