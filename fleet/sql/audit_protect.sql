-- To be run by a superuser in the fleet's database, as often as one likes: the audit trail becomes another role's, and the
-- fleet's own role may add to it and read it, and nothing else. Nobody can sign in as that role.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fleet_audit') THEN
        CREATE ROLE fleet_audit NOLOGIN;
    END IF;
END $$;
ALTER SCHEMA fleet_audit OWNER TO fleet_audit;
ALTER TABLE fleet_audit.entry OWNER TO fleet_audit;
ALTER TABLE fleet_audit.seal OWNER TO fleet_audit;
ALTER FUNCTION fleet_audit.refuse() OWNER TO fleet_audit;
ALTER FUNCTION fleet_audit.caught() OWNER TO fleet_audit;
REVOKE ALL ON SCHEMA fleet_audit FROM {role}, PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA fleet_audit FROM {role}, PUBLIC;
GRANT USAGE ON SCHEMA fleet_audit TO {role};
GRANT SELECT ON fleet_audit.entry, fleet_audit.seal TO {role};
GRANT INSERT ON fleet_audit.seal TO {role};
-- Not id, time, transaction and cluster, which are the database's to say.
GRANT INSERT (kind, outcome, actor, user_id, address, request, subject, before, after, data)
    ON fleet_audit.entry TO {role};
