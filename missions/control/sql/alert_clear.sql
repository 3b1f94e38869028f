-- Clear what has not been found for so long, with one event each. `now()` is when this look began: what it has found was
-- seen after that.
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
