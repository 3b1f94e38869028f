-- Cancel sorties that have not started. `why` may be empty.
WITH locked AS (
    SELECT s.id, s.state AS was FROM missions_sortie s
    WHERE s.state IN ('pending', 'waiting', 'ready', 'queued')
      AND (s.mission_id = ANY (%(missions)s::uuid[]) OR s.id = ANY (%(sorties)s::uuid[]))
    ORDER BY s.id
    FOR NO KEY UPDATE
), ended AS (
    UPDATE missions_sortie s
    SET state = 'cancelled', finished_at = clock_timestamp(), wake_at = NULL, waits_on = '', waits_for = left(%(why)s, 500)
    FROM locked
    WHERE s.id = locked.id
    RETURNING s.id, s.mission_id, locked.was
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.cancelled', mission_id, id, jsonb_strip_nulls(jsonb_build_object('from', was, 'why', nullif(%(why)s::text, '')))
    FROM ended
)
SELECT id, was FROM ended
