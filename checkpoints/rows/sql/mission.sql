-- A mission as two objects: its state, which counts for the digest, and what is kept beside the state. `counts` are its
-- sorties by state, and `origin` is the turn of the first one.
SELECT jsonb_build_object(
           'name', m.name, 'objective', m.objective, 'plan', m.plan, 'inputs', m.inputs, 'defaults', m.defaults,
           'folder', m.folder, 'readable', m.readable, 'priority', m.priority, 'stop_on_failure', m.stop_on_failure,
           'at_once', m.max_running, 'checkpoints', m.checkpoints,
           'state', CASE WHEN @missions.mission_has_ended(m) THEN m.state ELSE 'live' END)::text,
       jsonb_build_object(
           'mission', m.id, 'state', m.state, 'reason', m.reason, 'executes', m.can_execute, 'template', m.template,
           'owner', owner.username, 'team', team.name, 'created_at', m.created_at, 'finished_at', m.finished_at,
           'concurrency_keys', (
               SELECT coalesce(jsonb_object_agg(k.key, k."limit"), '{}')
               FROM missions_concurrencykey k
               WHERE k.key IN (SELECT s.concurrency_key FROM missions_sortie s WHERE s.mission_id = m.id)))::text,
       m.name, m.state, m.created_by_id, m.team_id,
       sorties.counts::text, sorties.origin,
       EXISTS (SELECT FROM missions_workspace w WHERE w.mission_id = m.id)
FROM missions_mission m
LEFT JOIN auth_user owner ON owner.id = m.created_by_id
LEFT JOIN auth_group team ON team.id = m.team_id
CROSS JOIN LATERAL (
    SELECT coalesce(json_object_agg(state, number), '{}') AS counts, coalesce(min(turn), 0) AS origin
    FROM (SELECT s.state, count(*) AS number, min(s.turn) AS turn
          FROM missions_sortie s WHERE s.mission_id = m.id GROUP BY s.state) AS counted
) AS sorties
WHERE m.id = %(mission)s
