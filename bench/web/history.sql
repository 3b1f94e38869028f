-- Insert a history: ended missions with the numbers `first` to `last`, each with ten sorties, their attempts and a
-- hundred events. The owners take turns. Ids are UUIDv7s of 2023, with a different millisecond for each mission and
-- sortie, so that all of them sort before those of later launches.
WITH numbered AS (
    SELECT n,
           (lpad(to_hex(1672531200000 + n * 1000), 12, '0') || '7000' || '8' || substr(md5('m' || n), 1, 15))::uuid AS id,
           to_timestamp(1672531200 + n) AS at
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
), missions AS (
    INSERT INTO missions_mission (id, name, objective, state, priority, stop_on_failure, max_running, inputs, defaults, folder, plan,
                                  reason, created_by_id, created_at, finished_at)
    SELECT id, 'Mission ' || n, '', CASE n %% 20 WHEN 0 THEN 'failed' ELSE 'succeeded' END, 0, false, 0, '{}', '{}', '', '',
           '', (%(owners)s::int[])[1 + n %% cardinality(%(owners)s::int[])], at, at + interval '5 seconds'
    FROM numbered
), sorties AS (
    INSERT INTO missions_sortie (id, mission_id, key, agent_type_id, state, priority, turn, gated, always, allow_failure, remaining,
                                 attempt, tries, max_tries, rescues, cancel_requested, waits_for, ready_at, started_at,
                                 finished_at)
    SELECT (lpad(to_hex(1672531200000 + n * 1000 + k), 12, '0') || '7001' || '8' || substr(md5('s' || n || '.' || k), 1, 15))::uuid,
           id, 's' || k, 'backend', CASE WHEN n %% 20 = 0 AND k = 10 THEN 'failed' ELSE 'succeeded' END, 0, n, false, false,
           false, 0, 1, 1, 1, 0, false, '', at, at, at + interval '3 seconds'
    FROM numbered, generate_series(1, 10) k
    RETURNING id, mission_id, state, started_at, finished_at
), briefs AS (
    INSERT INTO missions_brief (sortie_id, spec) SELECT id, '{"run": "true"}' FROM sorties
), attempts AS (
    INSERT INTO missions_attempt (sortie_id, number, state, started_at, finished_at, result, exit_code)
    SELECT id, 1, state, started_at, finished_at, '{"ok": true}', 0 FROM sorties
)
INSERT INTO fleet_event (at, kind, scope, subject, data)
SELECT started_at, (ARRAY['sortie.running', 'sortie.succeeded', 'attempt.started', 'sortie.ready'])[1 + k %% 4], mission_id, id, '{"attempt": 1}'
FROM sorties, generate_series(1, 10) k;
