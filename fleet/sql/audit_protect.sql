-- Run this as a superuser in the fleet's database; it is idempotent. It transfers the audit trail to a role that cannot
-- log in. The fleet's own role may only read it and add entries.
DO $$ BEGIN
    CREATE ROLE fleet_audit NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- it exists, or another database of this server is creating it
END $$;
ALTER SCHEMA fleet_audit OWNER TO fleet_audit;
ALTER TABLE fleet_audit.entry OWNER TO fleet_audit;
ALTER TABLE fleet_audit.seal OWNER TO fleet_audit;
DO $$ DECLARE its_function regprocedure; BEGIN
    FOR its_function IN SELECT oid FROM pg_proc WHERE pronamespace = 'fleet_audit'::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO fleet_audit', its_function);
    END LOOP;
END $$;
