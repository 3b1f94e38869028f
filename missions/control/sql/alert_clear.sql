-- Clear alerts that no check has found for `quiet` seconds, with one event each. `now()` is the start of this check, so
-- whatever it has found has a later `seen_at`.
WITH cleared AS (
    DELETE FROM missions_alert
    WHERE seen_at < now() - make_interval(secs => %(quiet)s)
    RETURNING rule, subject, message, raised_at
)
INSERT INTO fleet_event (kind, data)
SELECT 'alert.cleared', jsonb_build_object(
    'rule', rule, 'subject', subject, 'message', message,
    'lasted_s', round(extract(epoch FROM clock_timestamp() - raised_at)::numeric, 1))
FROM cleared
RETURNING data ->> 'message'
