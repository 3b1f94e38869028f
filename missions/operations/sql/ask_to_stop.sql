-- Note that running sorties are not wanted any more; the next renewal of their leases tells their agents.
WITH held AS (
    SELECT s.id FROM missions_sortie s
    WHERE s.state = 'running' AND NOT s.cancel_requested
      AND (s.mission_id = ANY (%(missions)s::uuid[]) OR s.id = ANY (%(sorties)s::uuid[]))
    ORDER BY s.id
    FOR UPDATE
), asked AS (
    UPDATE missions_sortie s SET cancel_requested = true
    FROM held
    WHERE s.id = held.id
    RETURNING s.id, s.mission_id, s.attempt
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.stopping', mission_id, id, jsonb_strip_nulls(jsonb_build_object('attempt', attempt, 'why', nullif(%(why)s::text, '')))
    FROM asked
)
SELECT id FROM asked
