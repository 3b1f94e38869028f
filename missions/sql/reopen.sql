-- Reopen what ended badly: one sortie (all of the mission where none is named), and the skipped that needed it, to
-- any depth. All become pending here; reopen_counters.sql counts their needs anew and frees what waits for nothing.
WITH RECURSIVE chosen AS (
    SELECT s.id FROM missions_sortie s
    WHERE s.mission_id = %(mission)s
      AND (s.id = %(sortie)s OR %(sortie)s::uuid IS NULL)
      AND s.state IN ('failed', 'cancelled', 'skipped')
      AND NOT (%(sortie)s::uuid IS NULL AND s.state = 'failed' AND s.allow_failure)
    UNION
    SELECT n.sortie_id
    FROM chosen JOIN missions_need n ON n.upstream_id = chosen.id JOIN missions_sortie d ON d.id = n.sortie_id
    WHERE d.state = 'skipped' OR (d.always AND d.state IN ('succeeded', 'failed'))
), held AS (
    SELECT s.id, s.state AS was FROM missions_sortie s
    WHERE s.id IN (SELECT id FROM chosen)
    ORDER BY s.id
    FOR UPDATE
), reopened AS (
    UPDATE missions_sortie s
    SET state = 'pending', finished_at = NULL, started_at = NULL, ready_at = NULL, wake_at = NULL, waits_for = '',
        tries = 0, rescues = 0, cancel_requested = false, agent_id = NULL
    FROM held
    WHERE s.id = held.id AND s.state IN ('failed', 'cancelled', 'skipped', 'succeeded')
    RETURNING s.id, s.mission_id, held.was
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.pending', mission_id, id, jsonb_build_object('from', was, 'why', 'retry') FROM reopened
)
SELECT count(*) FROM reopened
