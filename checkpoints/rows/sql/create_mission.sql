-- Create a mission from its two lines in a checkpoint. If it was live there, its state is the parameter `state_if_live`.
-- It keeps its time of creation if it is the saved mission itself or has ended; otherwise it starts now.
WITH created AS (
    INSERT INTO missions_mission (
        id, name, objective, state, priority, stop_on_failure, max_running, inputs, defaults, checkpoints, folder,
        readable, plan, can_execute, template, origin, reason, created_by_id, team_id, created_at, finished_at)
    SELECT %(mission)s, coalesce(%(name)s, t.state ->> 'name'), t.state ->> 'objective',
           CASE t.state ->> 'state' WHEN 'live' THEN %(state_if_live)s ELSE t.state ->> 'state' END,
           (t.state ->> 'priority')::int, (t.state ->> 'stop_on_failure')::boolean, (t.state ->> 'at_once')::int,
           t.state -> 'inputs', t.state -> 'defaults', t.state -> 'checkpoints', t.state ->> 'folder',
           t.state -> 'readable', t.state ->> 'plan',
           %(can_execute)s, %(template)s, %(origin)s, %(reason)s, %(owner)s, %(team)s,
           CASE WHEN %(is_same_mission)s OR t.state ->> 'state' <> 'live'
                THEN coalesce((t.kept ->> 'created_at')::timestamptz, clock_timestamp()) ELSE clock_timestamp() END,
           CASE WHEN t.state ->> 'state' <> 'live'
                THEN coalesce((t.kept ->> 'finished_at')::timestamptz, clock_timestamp()) END
    FROM (SELECT %(state)s::jsonb || %(changes)s::jsonb AS state, %(kept)s::jsonb AS kept) AS t
    RETURNING id, name, state
)
INSERT INTO fleet_event (kind, scope, subject, data)
SELECT 'mission.' || state, id, id,
       jsonb_build_object('name', name, 'why', 'restore', 'checkpoint', %(checkpoint)s::text)
FROM created
