-- The index that finds a part of a mission's name, as Django's `name__icontains` asks for it. A Postgres of one's own may lack
-- contrib's pg_trgm, or not let us have it: there each search reads all names. Or it has it in a schema that is not searched.
DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    EXECUTE format(
        'CREATE INDEX mission_named ON missions_mission USING gin (upper(name) %s.gin_trgm_ops)',
        (SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'pg_trgm')
    );
EXCEPTION WHEN feature_not_supported OR undefined_file OR insufficient_privilege THEN
    RAISE NOTICE 'mission names are searched without an index: %', SQLERRM;
END $$
