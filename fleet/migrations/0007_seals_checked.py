from django.db import migrations

# The tables of the trail can belong to a role of their own (fleet/audit/protection.py), as which this is done. The role of the
# session's start comes back by RESET ROLE.
AS_THE_TRAILS_OWNER = """
DO $$ DECLARE
    owner name := (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'fleet_audit');
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', owner);
EXCEPTION WHEN insufficient_privilege THEN
    RAISE insufficient_privilege USING
        MESSAGE = format('The audit trail belongs to %s, and %s may not migrate it.', owner, session_user),
        HINT = format('Let a superuser run in this database: GRANT %I TO %I. See docs/audit-trail.md.', owner, session_user);
END $$;
"""
MAKE = """
CREATE FUNCTION fleet_audit.accept_seal() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    here bigint := (SELECT system_identifier FROM pg_control_system());
    snapshot pg_snapshot := pg_current_snapshot();
    head fleet_audit.seal;
    reached fleet_audit.seal;
    unsealed bigint[];
    sealed bigint[];
    wrong text;
BEGIN
    SELECT * INTO head FROM fleet_audit.seal ORDER BY number DESC LIMIT 1;
    -- A seal that claims transactions of the future is forged. It holds nothing up.
    SELECT * INTO reached FROM fleet_audit.seal
    WHERE cluster = NEW.cluster AND (cluster <> here OR last_xid < pg_snapshot_xmax(snapshot)::text::bigint)
    ORDER BY number DESC LIMIT 1;
    SELECT array_agg(id ORDER BY xid, id) INTO unsealed FROM (
        SELECT xid, id FROM fleet_audit.entry
        WHERE cluster = NEW.cluster AND (xid, id) > (coalesce(reached.last_xid, 0), coalesce(reached.last_id, 0))
            AND (xid, id) <= (NEW.last_xid, NEW.last_id)
        ORDER BY xid, id LIMIT NEW.count + 1
    ) AS entries;
    SELECT array_agg(('x' || encode(substr(NEW.leaves, 40 * place + 1, 8), 'hex'))::bit(64)::bigint ORDER BY place)
    INTO sealed FROM generate_series(0, NEW.count - 1) AS place;
    wrong := CASE
        WHEN NEW.number <> coalesce(head.number, 0) + 1 THEN 'number'
        WHEN NEW.previous <> coalesce(head.digest, repeat('0', 64)) THEN 'digest of the seal before'
        WHEN NEW.cluster = here AND NEW.last_xid >= pg_snapshot_xmin(snapshot)::text::bigint THEN 'last transaction'
        WHEN sealed IS DISTINCT FROM unsealed THEN 'entries'
        WHEN NEW.first_id <> unsealed[1] OR NEW.last_id <> unsealed[NEW.count] OR NOT EXISTS (
            SELECT 1 FROM fleet_audit.entry WHERE cluster = NEW.cluster AND xid = NEW.first_xid AND id = NEW.first_id
        ) OR NOT EXISTS (
            SELECT 1 FROM fleet_audit.entry WHERE cluster = NEW.cluster AND xid = NEW.last_xid AND id = NEW.last_id
        ) THEN 'first and last entry'
        -- As fleet/audit/chain.py writes it.
        WHEN NEW.digest <> encode(sha256(convert_to(format(
            '[%s,"%s+00:00",%s,%s,%s,%s,%s,%s,"%s","%s"]',
            NEW.number, to_char(NEW.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), NEW.cluster, NEW.first_xid,
            NEW.first_id, NEW.last_xid, NEW.last_id, NEW.count, encode(sha256(NEW.leaves), 'hex'), NEW.previous
        ), 'UTF8')), 'hex') THEN 'digest'
    END;
    IF wrong IS NOT NULL THEN
        RAISE insufficient_privilege USING
            MESSAGE = format('Seal %s is refused: its %s is not that of the next seal.', NEW.number, wrong),
            HINT = 'Only the control loop seals; see docs/audit-trail.md.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER accept BEFORE INSERT ON fleet_audit.seal FOR EACH ROW EXECUTE FUNCTION fleet_audit.accept_seal();
ALTER TABLE fleet_audit.seal ENABLE ALWAYS TRIGGER accept;
RESET ROLE;
"""
UNMAKE = """
DROP TRIGGER accept ON fleet_audit.seal;
DROP FUNCTION fleet_audit.accept_seal();
RESET ROLE;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0006_found_quickly'),
    ]

    operations = [migrations.RunSQL([AS_THE_TRAILS_OWNER, MAKE], [AS_THE_TRAILS_OWNER, UNMAKE])]
