-- Request that running sorties stop. Their agents learn of it at the next renewal of their leases.
WITH locked AS (
    SELECT s.id FROM missions_sortie s
    WHERE s.state = 'running' AND NOT s.cancel_requested
      AND (s.mission_id = ANY (%(missions)s::uuid[]) OR s.id = ANY (%(sorties)s::uuid[]))
    ORDER BY s.id
    FOR NO KEY UPDATE
), requested AS (
    UPDATE missions_sortie s SET cancel_requested = true
    FROM locked
    WHERE s.id = locked.id
    RETURNING s.id, s.mission_id, s.attempt
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.stopping', mission_id, id, jsonb_strip_nulls(jsonb_build_object('attempt', attempt, 'why', nullif(%(why)s::text, '')))
    FROM requested
)
SELECT id FROM requested
