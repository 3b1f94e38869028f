-- Reopen sorties that ended badly: one, or all of the mission if `sortie` is NULL. Their dependents, to any depth, are
-- reopened too if they were skipped or have not started, or if they run `if: always` and have ended. All become
-- pending; missions/operations/sql/reopen_counters.sql then recounts their needs and frees those that wait for nothing.
-- A `run_at` applies again; so does the time until which a restored sortie must wait for its former attempt. Dependents
-- that are already pending are locked too, because their needs are recounted.
WITH RECURSIVE chosen AS (
    SELECT s.id FROM missions_sortie s
    WHERE s.mission_id = %(mission)s
      AND (s.id = %(sortie)s OR %(sortie)s::uuid IS NULL)
      AND (@missions.sortie_ended_badly(s) OR s.id = %(sortie)s AND s.state = 'failed')
    UNION
    SELECT n.sortie_id
    FROM chosen JOIN missions_need n ON n.upstream_id = chosen.id JOIN missions_sortie d ON d.id = n.sortie_id
    WHERE d.state IN ('skipped', 'queued', 'ready', 'waiting') OR (d.always AND d.state IN ('succeeded', 'failed'))
), pending AS (
    SELECT n.sortie_id
    FROM chosen JOIN missions_need n ON n.upstream_id = chosen.id JOIN missions_sortie d ON d.id = n.sortie_id
    WHERE d.state = 'pending'
), locked AS (
    SELECT s.id, s.state AS was, @missions.sortie_has_ended(s) AS had_ended FROM missions_sortie s
    WHERE s.id IN (SELECT id FROM chosen UNION SELECT sortie_id FROM pending) AND s.state <> 'running'
    ORDER BY s.id
    FOR NO KEY UPDATE
), reopened AS (
    UPDATE missions_sortie s
    SET state = 'pending', finished_at = NULL, started_at = NULL, ready_at = NULL, waits_on = '', waits_for = '',
        blocked_by_id = NULL,
        wake_at = greatest(
            CASE WHEN locked.had_ended THEN s.wake_at END,
            (SELECT (b.spec ->> 'run_at')::timestamptz FROM missions_brief b WHERE b.sortie_id = s.id)),
        tries = 0, rescues = 0, cancel_requested = false, agent_id = NULL, accepted = NULL
    FROM locked
    WHERE s.id = locked.id AND locked.was <> 'pending'
    RETURNING s.id, s.mission_id, locked.was
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.pending', mission_id, id, jsonb_build_object('from', was, 'why', 'retry') FROM reopened
)
SELECT id, was FROM reopened
