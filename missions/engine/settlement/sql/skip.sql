-- Skip unstarted sorties that can no longer run: those that need one of `bad`, directly or through others, and all
-- sorties of the missions in `stopped`. Sorties that run `if: always` are not skipped.
WITH RECURSIVE doomed AS (
    SELECT n.sortie_id AS id
    FROM missions_need n JOIN missions_sortie d ON d.id = n.sortie_id
    WHERE n.upstream_id = ANY (%(bad)s) AND NOT d.always AND d.state = 'pending'
    UNION
    SELECT s.id FROM missions_sortie s
    WHERE s.mission_id = ANY (%(stopped)s) AND NOT s.always AND s.state IN ('pending', 'waiting', 'ready', 'queued')
    UNION
    SELECT n.sortie_id
    FROM doomed JOIN missions_need n ON n.upstream_id = doomed.id JOIN missions_sortie d ON d.id = n.sortie_id
    WHERE NOT d.always AND d.state = 'pending'
), locked AS (
    SELECT s.id, s.state AS was FROM missions_sortie s
    WHERE s.id IN (SELECT id FROM doomed) AND s.state IN ('pending', 'waiting', 'ready', 'queued')
    ORDER BY s.id
    FOR UPDATE
), skipped AS (
    UPDATE missions_sortie s
    SET state = 'skipped', finished_at = clock_timestamp(), wake_at = NULL, waits_on = '', waits_for = %(why)s
    FROM locked
    WHERE s.id = locked.id
    RETURNING s.id, s.mission_id, locked.was
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.skipped', mission_id, id, jsonb_build_object('from', was, 'why', %(why)s::text) FROM skipped
)
SELECT id FROM skipped
