-- Skip unstarted sorties that can no longer run: those that need one of `bad`, directly or through others, and all
-- sorties of the missions in `stopped`. Sorties that run `if: always` are not skipped.
--
-- Sorties are looked up by their key, as in `settle_and_claim.sql`. For that, the planner must expect few of them: it
-- expects ten elements of an array, but hundreds of rows of a recursion.
WITH RECURSIVE doomed AS (
    SELECT n.sortie_id AS id
    FROM missions_need n
    WHERE n.upstream_id = ANY (%(bad)s)
      AND (SELECT NOT d.always AND d.state = 'pending' FROM missions_sortie d WHERE d.id = n.sortie_id)
    UNION
    SELECT s.id
    FROM unnest(%(stopped)s::uuid[]) AS mission
    CROSS JOIN LATERAL (
        SELECT id FROM missions_sortie
        WHERE mission_id = mission AND NOT always AND state IN ('pending', 'waiting', 'ready', 'queued')
        OFFSET 0
    ) s
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
    FROM unnest(ARRAY(SELECT id FROM locked), ARRAY(SELECT was FROM locked)) AS before (id, was)
    WHERE s.id = before.id
    RETURNING s.id, s.mission_id, before.was
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.skipped', mission_id, id, jsonb_build_object('from', was, 'why', %(why)s::text) FROM skipped
)
SELECT id FROM skipped
