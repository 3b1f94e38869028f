-- Raise an alert for each new finding, with one event each, and update `seen_at` of alerts that were found again.
WITH finding AS (
    SELECT * FROM json_to_recordset(%(findings)s) AS t (rule text, subject text, message text, about uuid)
), repeated AS (
    UPDATE missions_alert a
    SET seen_at = clock_timestamp(), message = finding.message
    FROM finding
    WHERE a.rule = finding.rule AND a.subject = finding.subject
), raised AS (
    INSERT INTO missions_alert (rule, subject, message)
    SELECT rule, subject, message FROM finding
    ON CONFLICT (rule, subject) DO NOTHING
    RETURNING rule, subject, message
)
INSERT INTO fleet_event (kind, subject, data)
SELECT 'alert.raised', finding.about,
       jsonb_build_object('rule', raised.rule, 'subject', raised.subject, 'message', raised.message)
FROM raised JOIN finding USING (rule, subject)
RETURNING data ->> 'message'
