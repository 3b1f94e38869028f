-- Sorties of a mission (all if `sorties` is NULL) as two objects each: the state, which counts for the digest and is
-- free of ids, and what is kept beside it. Whether a sortie waits, is ready, queued or runs depends on the moment: all
-- four are `due`.
WITH origin AS (
    SELECT min(turn) AS turn FROM missions_sortie WHERE mission_id = %(mission)s
)
SELECT jsonb_build_object(
           'key', s.key, 'type', s.agent_type_id, 'spec', b.spec, 'priority', s.priority, 'order', s.turn - origin.turn,
           'always', s.always, 'allow_failure', s.allow_failure, 'max_tries', s.max_tries, 'tries', s.tries,
           'rescues', s.rescues, 'concurrency_key', s.concurrency_key, 'needs', needs.list, 'added_by', adder.key,
           'state', CASE WHEN final.yes OR s.state = 'pending' THEN s.state ELSE 'due' END,
           'reason', CASE WHEN s.state IN ('skipped', 'cancelled') THEN s.waits_for ELSE '' END,
           'result', CASE WHEN final.yes THEN a.result END,
           'error', CASE WHEN final.yes THEN coalesce(a.error, '') ELSE '' END,
           'artifacts', CASE WHEN final.yes THEN files.list ELSE '[]' END)::text,
       jsonb_build_object(
           'key', s.key, 'sortie', s.id, 'state', s.state, 'attempt', s.attempt,
           'accepted', CASE WHEN final.yes THEN coalesce(a.number, 0) END, 'agent', s.agent_id,
           'waits_for', s.waits_for, 'wake_at', s.wake_at, 'ready_at', s.ready_at, 'started_at', s.started_at,
           'finished_at', s.finished_at, 'outcome', a.state, 'outcome_at', a.finished_at, 'exit_code', a.exit_code,
           'cpu_s', a.cpu_s, 'max_rss_bytes', a.max_rss_bytes, 'note', a.note, 'resume', last.resume)::text
FROM missions_sortie s
CROSS JOIN origin
CROSS JOIN LATERAL (SELECT s.state IN ('succeeded', 'failed', 'skipped', 'cancelled') AS yes) AS final
JOIN missions_brief b ON b.sortie_id = s.id
LEFT JOIN missions_sortie adder ON adder.id = s.added_by_id
LEFT JOIN missions_attempt a ON a.sortie_id = s.id AND a.number = coalesce(s.accepted, s.attempt)
LEFT JOIN missions_attempt last ON last.sortie_id = s.id AND last.number = s.attempt
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(jsonb_build_array(u.key, n.name) ORDER BY u.key COLLATE "C"), '[]') AS list
    FROM missions_need n JOIN missions_sortie u ON u.id = n.upstream_id
    WHERE n.sortie_id = s.id
) AS needs
CROSS JOIN LATERAL (
    SELECT coalesce(
        jsonb_agg(
            jsonb_build_object('path', f.path, 'digest', f.digest, 'size', f.size, 'media_type', f.media_type)
            ORDER BY f.path COLLATE "C"),
        '[]') AS list
    FROM missions_artifact f
    WHERE f.sortie_id = s.id AND f.attempt = coalesce(s.accepted, s.attempt)
) AS files
WHERE s.mission_id = %(mission)s AND (%(sorties)s::uuid[] IS NULL OR s.id = ANY (%(sorties)s::uuid[]))
