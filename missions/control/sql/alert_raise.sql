-- Raise what has been found and is not raised yet, with one event each, and note of the rest that it is still so.
WITH found AS (
    SELECT * FROM json_to_recordset(%(found)s) AS t (rule text, subject text, message text, about uuid)
), again AS (
    UPDATE missions_alert a
    SET seen_at = clock_timestamp(), message = found.message
    FROM found
    WHERE a.rule = found.rule AND a.subject = found.subject
), raised AS (
    INSERT INTO missions_alert (rule, subject, message)
    SELECT rule, subject, message FROM found
    ON CONFLICT (rule, subject) DO NOTHING
    RETURNING rule, subject, message
)
INSERT INTO fleet_event (kind, subject, data)
SELECT 'alert.raised', found.about,
       jsonb_build_object('rule', raised.rule, 'subject', raised.subject, 'message', raised.message)
FROM raised JOIN found USING (rule, subject)
RETURNING data ->> 'message'
