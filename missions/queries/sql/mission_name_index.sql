-- The index for searches in mission names, as Django's `name__icontains` does them. An external Postgres may lack
-- contrib's pg_trgm or not allow it; then each search reads all names. The extension may be in a schema outside the
-- search path.
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
