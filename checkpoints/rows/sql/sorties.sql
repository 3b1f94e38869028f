-- Sorties of a mission (all if `sorties` is NULL) as two objects each: the state, which counts for the digest and has
-- no ids, and what is kept beside the state. The states waiting, ready, queued and running are all `due`, because which
-- of them applies is a matter of timing. row_to_json is twice as fast as jsonb_build_object, and as deterministic.
-- `origin` is the turn of the mission's first sortie.
-- Needs and artifacts are read per sortie, because Postgres has no statistics of a new mission: joins of aggregates
-- would then be nested loops over all of them.
SELECT s.key, row_to_json(saved)::text, row_to_json(kept)::text, s.id, s.state
FROM missions_sortie s
CROSS JOIN LATERAL (SELECT @missions.sortie_has_ended(s) AS is_true) AS final
JOIN missions_brief b ON b.sortie_id = s.id
LEFT JOIN missions_sortie adder ON adder.id = s.added_by_id
LEFT JOIN missions_attempt a ON a.sortie_id = s.id AND a.number = coalesce(s.accepted, s.attempt)
LEFT JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_array(u.key, n.name) ORDER BY u.key COLLATE "C") AS list
    FROM missions_need n JOIN missions_sortie u ON u.id = n.upstream_id
    WHERE n.sortie_id = s.id
) AS needs ON true
LEFT JOIN LATERAL (
    SELECT jsonb_agg(
               jsonb_build_object('path', f.path, 'digest', f.digest, 'size', f.size, 'media_type', f.media_type)
               ORDER BY f.path COLLATE "C") AS list
    FROM missions_artifact f
    WHERE final.is_true AND f.sortie_id = s.id AND f.attempt = coalesce(s.accepted, s.attempt)
) AS files ON true
CROSS JOIN LATERAL (
    SELECT s.key, s.agent_type_id AS type, b.spec, s.priority, s.turn - %(origin)s AS "order", s.always,
           s.allow_failure, s.max_tries, s.tries, s.rescues, s.concurrency_key, coalesce(needs.list, '[]') AS needs,
           adder.key AS added_by,
           CASE WHEN final.is_true OR s.state = 'pending' THEN s.state ELSE 'due' END AS state,
           CASE WHEN s.state IN ('skipped', 'cancelled') THEN s.waits_for ELSE '' END AS reason,
           CASE WHEN final.is_true THEN a.result END AS result,
           CASE WHEN final.is_true THEN coalesce(a.error, '') ELSE '' END AS error,
           coalesce(files.list, '[]') AS artifacts
) AS saved
CROSS JOIN LATERAL (
    SELECT s.key, s.id AS sortie, s.state, s.attempt, CASE WHEN final.is_true THEN coalesce(a.number, 0) END AS accepted,
           s.agent_id AS agent, s.waits_for, s.wake_at, s.ready_at, s.started_at, s.finished_at, a.state AS outcome,
           a.finished_at AS outcome_at, a.exit_code, a.cpu_s, a.max_rss_bytes, a.note,
           CASE WHEN NOT final.is_true THEN
               (SELECT last.resume FROM missions_attempt last
                WHERE last.sortie_id = s.id AND last.resume IS NOT NULL ORDER BY last.number DESC LIMIT 1)
           END AS resume
) AS kept
WHERE s.mission_id = %(mission)s AND (%(sorties)s::uuid[] IS NULL OR s.id = ANY (%(sorties)s::uuid[]))
