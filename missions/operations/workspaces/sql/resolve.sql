-- A sortie that waited for a person becomes ready. Admission then queues it.
WITH decided AS (
    UPDATE missions_sortie s
    SET state = 'ready', waits_on = '', waits_for = '', wake_at = NULL, ready_at = clock_timestamp()
    WHERE s.id = %(sortie)s AND s.state = 'waiting' AND s.waits_on = 'person'
    RETURNING s.id, s.mission_id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.ready', mission_id, id, jsonb_build_object('from', 'waiting', 'why', %(why)s::text) FROM decided
)
SELECT id FROM decided
