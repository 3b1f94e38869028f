-- These sorties of a mission in the plan's order, each with the keys of its needs, the outcome of its last attempt, and
-- the last change of the repository that an attempt of it made. A sortie that is to start anew, after a retry or a
-- restore, has neither time and shows no earlier attempt.
SELECT s.id, s.key, s.agent_type_id, s.state, s.attempt, s.tries, s.allow_failure, s.concurrency_key, s.waits_for,
       s.waits_on, s.blocked_by_id, s.max_tries, s.wake_at, s.ready_at, s.started_at, s.finished_at,
       a.started_at AS attempt_started_at, a.finished_at AS attempt_finished_at,
       needs.keys AS needed, needs.unfinished,
       a.progress, a.note, a.error, CASE WHEN %(results)s AND a.state = 'succeeded' THEN a.result END AS result,
       (SELECT jsonb_build_object(
                   'attempt', c.attempt, 'state', c.state, 'commit', c.commit,
                   'landed', CASE c.state WHEN 'landed' THEN c.landed ELSE '' END, 'files', c.number_of_files,
                   'lines_added', c.lines_added, 'lines_removed', c.lines_removed, 'no_change', c.no_change)
        FROM missions_change c WHERE c.sortie_id = s.id ORDER BY c.attempt DESC LIMIT 1) AS change
FROM missions_sortie s
LEFT JOIN missions_attempt a ON a.sortie_id = s.id AND a.number = coalesce(s.accepted, s.attempt)
    AND coalesce(s.started_at, s.finished_at) IS NOT NULL
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(u.key ORDER BY u.turn, u.id), '{}') AS keys,
           coalesce(array_agg(u.key ORDER BY u.turn, u.id) FILTER (
               WHERE NOT @missions.sortie_has_ended(u)), '{}') AS unfinished
    FROM missions_need n JOIN missions_sortie u ON u.id = n.upstream_id
    WHERE n.sortie_id = s.id
) AS needs
WHERE s.id = ANY (%(page)s)
ORDER BY s.turn, s.id
