-- Skip unstarted sorties that can no longer run: those that need one of `bad`, directly or through others, and all
-- sorties of the missions in `stopped`. Sorties that run `if: always` are not skipped.
WITH RECURSIVE doomed AS (
    SELECT n.sortie_id AS id
    FROM missions_need n
    WHERE n.upstream_id = ANY (%(bad)s)
      AND (SELECT NOT d.always AND d.state = 'pending' FROM missions_sortie d WHERE d.id = n.sortie_id)
    UNION
    SELECT s.id FROM missions_sortie s
    WHERE s.mission_id = ANY (%(stopped)s) AND NOT s.always AND s.state IN ('pending', 'waiting', 'ready', 'queued')
    UNION
    SELECT n.sortie_id
    FROM doomed
    CROSS JOIN LATERAL (SELECT sortie_id FROM missions_need WHERE upstream_id = doomed.id OFFSET 0) n
    WHERE (SELECT NOT d.always AND d.state = 'pending' FROM missions_sortie d WHERE d.id = n.sortie_id)
), locked AS (
    SELECT s.id, s.state AS was
    FROM (SELECT id FROM doomed ORDER BY id) doomed
    CROSS JOIN LATERAL (
        SELECT id, state FROM missions_sortie
        WHERE id = doomed.id AND state IN ('pending', 'waiting', 'ready', 'queued')
        FOR NO KEY UPDATE
    ) s
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
