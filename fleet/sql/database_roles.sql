-- For the administrator of an embedded Postgres: what the application owns becomes the owner's, and the application keeps the
-- rights to use it. A home from before the owner had a role of its own is converted so.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fleet_owner') THEN
        CREATE ROLE fleet_owner NOLOGIN;
    END IF;
    EXECUTE format('ALTER DATABASE %I OWNER TO fleet_owner', current_database());
END $$;
REASSIGN OWNED BY {role} TO fleet_owner;
REVOKE fleet_owner FROM {role};
ALTER ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
-- So that it can name the transaction that holds up the sealing of the audit trail, whoever's that is.
GRANT pg_read_all_stats TO {role};
