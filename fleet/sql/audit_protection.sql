-- How this session's role could do more to the trail than add entries; no row if it cannot.
SELECT 'it is a superuser' FROM pg_roles WHERE rolname = current_user AND rolsuper
UNION ALL
SELECT format('it has %s', attribute)
FROM pg_roles, unnest(ARRAY['CREATEDB', 'CREATEROLE', 'REPLICATION'], ARRAY[rolcreatedb, rolcreaterole, rolreplication])
    AS power (attribute, has)
WHERE rolname = current_user AND has
UNION ALL
SELECT format('it is or may become %s, which owns the database', pg_get_userbyid(datdba))
FROM pg_database WHERE datname = current_database() AND pg_has_role(current_user, datdba, 'MEMBER')
UNION ALL
SELECT format('it is or may become %s, which owns %s', owner, thing)
FROM (
    SELECT pg_get_userbyid(nspowner) AS owner, 'the schema' AS thing, nspowner AS id
    FROM pg_namespace WHERE nspname = 'fleet_audit'
    UNION ALL
    SELECT pg_get_userbyid(relowner), relname, relowner
    FROM pg_class WHERE relnamespace = 'fleet_audit'::regnamespace AND relkind = 'r'
    UNION ALL
    SELECT pg_get_userbyid(proowner), proname || '()', proowner
    FROM pg_proc WHERE pronamespace = 'fleet_audit'::regnamespace
    UNION ALL
    SELECT DISTINCT pg_get_userbyid(relowner), 'tables of the application', relowner
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
) AS owned
WHERE pg_has_role(current_user, id, 'MEMBER')
UNION ALL
SELECT format('it may %s %s', privilege, relname)
FROM pg_class, unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS privilege
WHERE relnamespace = 'fleet_audit'::regnamespace AND relkind = 'r' AND has_table_privilege(current_user, oid, privilege)
UNION ALL
SELECT format('the trigger %s of %s is not enabled', needed.trigger, needed.relation)
FROM (VALUES ('entry', 'refuse'), ('seal', 'refuse'), ('seal', 'accept')) AS needed (relation, trigger)
WHERE NOT EXISTS (
    SELECT 1 FROM pg_trigger
    WHERE tgrelid = to_regclass('fleet_audit.' || needed.relation) AND tgname = needed.trigger AND tgenabled = 'A'
)
