-- The trigger function that accepts only the next seal of the chain. Migrations run this as the owner of the trail.
CREATE OR REPLACE FUNCTION fleet_audit.accept_seal() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
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
        -- Python cannot read a time after the year 9999, so such a seal would end all sealing and verification.
        WHEN NEW.at NOT BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() THEN 'time'
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
