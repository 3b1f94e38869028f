-- Run as a superuser: transfer everything that the application's role owns to the owner's role.
-- This also converts a home that was created before the owner had a separate role.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fleet_owner') THEN
        CREATE ROLE fleet_owner NOLOGIN;
    END IF;
    EXECUTE format('ALTER DATABASE %I OWNER TO fleet_owner', current_database());
END $$;
REASSIGN OWNED BY {role} TO fleet_owner;
REVOKE fleet_owner FROM {role};
ALTER ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
-- Every role may set defaults for its own sessions, such as a search_path in which no table is found.
ALTER ROLE {role} RESET ALL;
DO $$ BEGIN
    EXECUTE format('ALTER ROLE {role} IN DATABASE %I RESET ALL', current_database());
END $$;
-- The application must be able to name the transaction that blocks the sealing of the audit trail, even another role's.
GRANT pg_read_all_stats TO {role};
-- Postgres lets every role connect to every database, and create temporary tables there.
REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC;
