-- The facts of a recovery context: the mission's last events, its next steps, its blockers (if `blocked`: to find them
-- reads every sortie) and the files that it made.
SELECT json_build_object(
    'name', m.name,
    'objective', left(m.objective, 2000),
    'state', m.state,
    'reason', m.reason,
    'elapsed_s', round(extract(epoch FROM coalesce(m.finished_at, clock_timestamp()) - m.created_at)::numeric, 1),
    'last_actions', (
        SELECT coalesce(json_agg(json_build_object(
            'at', e.at, 'kind', e.kind, 'sortie', s.key) ORDER BY e.xid DESC, e.id DESC), '[]')
        FROM (SELECT * FROM fleet_event WHERE scope = m.id ORDER BY xid DESC, id DESC LIMIT %(items)s) AS e
        LEFT JOIN missions_sortie s ON s.id = e.subject),
    'next_steps', (
        SELECT coalesce(json_agg(json_build_object(
            'sortie', due.key, 'agent_type', due.agent_type_id, 'state', due.state, 'attempt', due.attempt,
            'reported', left(a.note, %(text)s)) ORDER BY due.turn, due.id), '[]')
        FROM (
            SELECT * FROM missions_sortie
            WHERE mission_id = m.id AND state IN ('running', 'queued', 'ready', 'waiting')
            ORDER BY turn, id LIMIT %(items)s) AS due
        LEFT JOIN missions_attempt a ON a.sortie_id = due.id AND a.number = due.attempt),
    'blockers', (
        SELECT coalesce(json_agg(json_build_object(
            'sortie', bad.key, 'state', bad.state, 'reason', bad.waits_for, 'reported', left(a.error, %(text)s))
            ORDER BY bad.turn, bad.id), '[]')
        FROM (
            SELECT * FROM missions_sortie
            WHERE %(blocked)s AND mission_id = m.id
              AND (state = 'failed' AND NOT allow_failure OR state = 'cancelled' OR state = 'waiting' AND tries > 0)
            ORDER BY turn, id LIMIT %(items)s) AS bad
        LEFT JOIN missions_attempt a ON a.sortie_id = bad.id AND a.number = coalesce(bad.accepted, bad.attempt)),
    'files_modified', (
        SELECT coalesce(json_agg(json_build_object('path', f.path, 'sortie', f.key, 'bytes', f.size)), '[]')
        FROM (
            SELECT f.path, s.key, f.size
            FROM missions_artifact f JOIN missions_sortie s ON s.id = f.sortie_id
            WHERE s.mission_id = m.id AND s.state = 'succeeded' AND f.attempt = coalesce(s.accepted, s.attempt)
            ORDER BY f.created_at DESC LIMIT %(items)s) AS f))::text
FROM missions_mission m
WHERE m.id = %(mission)s
