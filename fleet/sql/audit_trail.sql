-- The tables of the audit trail. They have their own schema, because the owner of a schema may drop everything in it.
-- fleet/audit/protection.py transfers the schema to another role. Later migrations of these tables must run as that
-- role.
CREATE SCHEMA fleet_audit;

CREATE TABLE fleet_audit.entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    cluster bigint NOT NULL DEFAULT (pg_control_system()).system_identifier,
    xid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    kind varchar(60) NOT NULL CHECK (kind <> ''),
    outcome varchar(6) NOT NULL CHECK (outcome IN ('ok', 'denied', 'failed')),
    actor varchar(200) NOT NULL,
    user_id bigint,
    address varchar(64) NOT NULL,
    request varchar(100) NOT NULL,
    subject varchar(200) NOT NULL,
    before jsonb,
    after jsonb,
    data jsonb NOT NULL
);
CREATE UNIQUE INDEX entry_in_order ON fleet_audit.entry (cluster, xid, id);
CREATE INDEX entry_by_actor ON fleet_audit.entry (actor, id);
CREATE INDEX entry_by_subject ON fleet_audit.entry (subject, id);
CREATE INDEX entry_by_kind ON fleet_audit.entry (kind, id);
CREATE INDEX entry_by_time ON fleet_audit.entry USING brin (at);
CREATE INDEX entry_not_ok ON fleet_audit.entry (outcome, id) WHERE outcome <> 'ok';

CREATE TABLE fleet_audit.seal (
    number bigint PRIMARY KEY CHECK (number > 0),
    at timestamptz NOT NULL,
    cluster bigint NOT NULL,
    first_xid bigint NOT NULL,
    first_id bigint NOT NULL,
    last_xid bigint NOT NULL,
    last_id bigint NOT NULL,
    count integer NOT NULL CHECK (count > 0 AND octet_length(leaves) = 40 * count),
    leaves bytea NOT NULL,
    previous char(64) NOT NULL UNIQUE,
    digest char(64) NOT NULL UNIQUE
);
CREATE INDEX seal_by_cluster ON fleet_audit.seal (cluster, number);
ALTER TABLE fleet_audit.seal ALTER COLUMN leaves SET STORAGE EXTERNAL;

CREATE FUNCTION fleet_audit.refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE insufficient_privilege USING
        MESSAGE = format('The audit trail is append-only: %s on fleet_audit.%s is not allowed.', TG_OP, TG_TABLE_NAME),
        HINT = 'To correct an entry, add another one.';
END $$;

CREATE TRIGGER refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON fleet_audit.entry
    FOR EACH STATEMENT EXECUTE FUNCTION fleet_audit.refuse();
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON fleet_audit.seal
    FOR EACH STATEMENT EXECUTE FUNCTION fleet_audit.refuse();
ALTER TABLE fleet_audit.entry ENABLE ALWAYS TRIGGER refuse;
ALTER TABLE fleet_audit.seal ENABLE ALWAYS TRIGGER refuse;

-- For the triggers of fleet/audit/guarding.py. The number of rows is the difference between this session's statistics
-- of the table before and after the statement. Transition tables would also slow down the fleet's own writes, which are
-- not recorded.
CREATE FUNCTION fleet_audit.caught() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    setting text := format('fleet_audit.%s_%s', lower(TG_OP), TG_RELID);
    total bigint := CASE TG_OP
        WHEN 'INSERT' THEN pg_stat_get_xact_tuples_inserted(TG_RELID)
        WHEN 'UPDATE' THEN pg_stat_get_xact_tuples_updated(TG_RELID)
        WHEN 'DELETE' THEN pg_stat_get_xact_tuples_deleted(TG_RELID)
    END;
    rows bigint;
BEGIN
    IF TG_WHEN = 'BEFORE' THEN
        PERFORM set_config(setting, total::text, true);
        RETURN NULL;
    END IF;
    rows := total - current_setting(setting, true)::bigint;
    IF rows = 0 AND current_setting('track_counts')::boolean THEN
        RETURN NULL;
    END IF;
    INSERT INTO fleet_audit.entry (kind, outcome, actor, address, request, subject, data)
    VALUES ('database.' || lower(TG_OP), 'ok', left('database:' || session_user, 200),
            coalesce(host(inet_client_addr()), ''), '', left(TG_TABLE_NAME, 200),
            jsonb_build_object('rows', rows, 'application', current_setting('application_name'),
                               'backend', pg_backend_pid()));
    RETURN NULL;
END $$;
