-- Return a mission to its state in a checkpoint; if it was live there, it is paused. Its owner, its template and its
-- right to run code do not change.
WITH before AS (
    SELECT id, state FROM missions_mission WHERE id = %(mission)s
), moved AS (
    UPDATE missions_mission m
    SET name = t.state ->> 'name', objective = t.state ->> 'objective', plan = t.state ->> 'plan',
        inputs = t.state -> 'inputs', defaults = t.state -> 'defaults',
        checkpoints = t.state -> 'checkpoints', folder = t.state ->> 'folder',
        readable = t.state -> 'readable', priority = (t.state ->> 'priority')::int,
        stop_on_failure = (t.state ->> 'stop_on_failure')::boolean, max_running = (t.state ->> 'at_once')::int,
        state = CASE t.state ->> 'state' WHEN 'live' THEN 'paused' ELSE t.state ->> 'state' END,
        reason = CASE t.state ->> 'state' WHEN 'live' THEN %(reason)s ELSE t.kept ->> 'reason' END,
        finished_at = CASE t.state ->> 'state' WHEN 'live' THEN NULL
                           ELSE coalesce((t.kept ->> 'finished_at')::timestamptz, clock_timestamp()) END
    FROM (SELECT %(state)s::jsonb AS state, %(kept)s::jsonb AS kept) AS t
    WHERE m.id = %(mission)s
    RETURNING m.id, m.state
)
INSERT INTO fleet_event (kind, scope, subject, data)
SELECT 'mission.' || moved.state, moved.id, moved.id,
       jsonb_build_object('from', before.state, 'reason', %(reason)s, 'why', 'restore', 'checkpoint', %(checkpoint)s::text)
FROM moved JOIN before ON before.id = moved.id
