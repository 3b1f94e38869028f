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

CREATE FUNCTION fleet_audit.accept_seal() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    this_cluster bigint := (SELECT system_identifier FROM pg_control_system());
    snapshot pg_snapshot := pg_current_snapshot();
    head fleet_audit.seal;
    credible fleet_audit.seal;
    unsealed bigint[];
    sealed bigint[];
    wrong text;
BEGIN
    SELECT * INTO head FROM fleet_audit.seal ORDER BY number DESC LIMIT 1;
    -- The last credible seal. One that claims transactions of the future is forged.
    SELECT * INTO credible FROM fleet_audit.seal
    WHERE cluster = NEW.cluster AND (cluster <> this_cluster OR last_xid < pg_snapshot_xmax(snapshot)::text::bigint)
    ORDER BY number DESC LIMIT 1;
    SELECT array_agg(id ORDER BY xid, id) INTO unsealed FROM (
        SELECT xid, id FROM fleet_audit.entry
        WHERE cluster = NEW.cluster AND (xid, id) > (coalesce(credible.last_xid, 0), coalesce(credible.last_id, 0))
            AND (xid, id) <= (NEW.last_xid, NEW.last_id)
        ORDER BY xid, id LIMIT NEW.count + 1
    ) AS entries;
    SELECT array_agg(('x' || encode(substr(NEW.leaves, 40 * place + 1, 8), 'hex'))::bit(64)::bigint ORDER BY place)
    INTO sealed FROM generate_series(0, NEW.count - 1) AS place;
    wrong := CASE
        WHEN NEW.number <> coalesce(head.number, 0) + 1 THEN 'number'
        WHEN NEW.previous <> coalesce(head.digest, repeat('0', 64)) THEN 'previous digest'
        WHEN NEW.cluster = this_cluster AND NEW.last_xid >= pg_snapshot_xmin(snapshot)::text::bigint THEN 'last transaction'
        WHEN sealed IS DISTINCT FROM unsealed THEN 'entries'
        WHEN NEW.first_id <> unsealed[1] OR NEW.last_id <> unsealed[NEW.count] OR NOT EXISTS (
            SELECT 1 FROM fleet_audit.entry WHERE cluster = NEW.cluster AND xid = NEW.first_xid AND id = NEW.first_id
        ) OR NOT EXISTS (
            SELECT 1 FROM fleet_audit.entry WHERE cluster = NEW.cluster AND xid = NEW.last_xid AND id = NEW.last_id
        ) THEN 'first and last entry'
        -- The same text as in fleet/audit/chain.py.
        WHEN NEW.digest <> encode(sha256(convert_to(format(
            '[%s,"%s+00:00",%s,%s,%s,%s,%s,%s,"%s","%s"]',
            NEW.number, to_char(NEW.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), NEW.cluster, NEW.first_xid,
            NEW.first_id, NEW.last_xid, NEW.last_id, NEW.count, encode(sha256(NEW.leaves), 'hex'), NEW.previous
        ), 'UTF8')), 'hex') THEN 'digest'
    END;
    IF wrong IS NOT NULL THEN
        RAISE insufficient_privilege USING
            MESSAGE = format('Seal %s is refused: its %s does not continue the chain.', NEW.number, wrong),
            HINT = 'Only the control loop adds seals; see docs/audit-trail.md.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER accept BEFORE INSERT ON fleet_audit.seal FOR EACH ROW EXECUTE FUNCTION fleet_audit.accept_seal();
ALTER TABLE fleet_audit.seal ENABLE ALWAYS TRIGGER accept;
