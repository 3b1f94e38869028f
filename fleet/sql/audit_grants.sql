-- Let the application read the trail, and add entries and seals; nothing else.
REVOKE ALL ON SCHEMA fleet_audit FROM {role}, PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA fleet_audit FROM {role}, PUBLIC;
GRANT USAGE ON SCHEMA fleet_audit TO {role};
GRANT SELECT ON fleet_audit.entry, fleet_audit.seal TO {role};
-- A trigger accepts only the next seal of the chain.
GRANT INSERT ON fleet_audit.seal TO {role};
-- Not id, time, transaction and cluster, which the database sets.
GRANT INSERT (kind, outcome, actor, user_id, address, request, subject, before, after, data)
    ON fleet_audit.entry TO {role};
