-- Return sorties to their states in a checkpoint. `accepted` is the number of the attempt whose outcome stands.
-- If the row is not the captured one, the outcome is copied to a new attempt; with `resume_data`, so is the value that the
-- next attempt resumes from. A sortie that may run waits until no process of an earlier attempt is left; if it may only
-- run later, `wake_at` has that time.
WITH target AS (
    SELECT t.*, s.state AS was, t.state ->> 'state' AS class, (t.kept ->> 'accepted')::int AS accepted_number,
           t.state ->> 'state' NOT IN ('pending', 'due') AS final,
           (t.kept ->> 'sortie')::uuid <> t.sortie
               AND CASE WHEN t.state ->> 'state' NOT IN ('pending', 'due') THEN (t.kept ->> 'accepted')::int > 0
                        ELSE %(resume_data)s AND coalesce(jsonb_typeof(t.kept -> 'resume'), 'null') <> 'null' END AS copied,
           greatest(t.wait_until, CASE WHEN t.kept ->> 'state' IN ('pending', 'waiting', 'ready')
                                       THEN (t.kept ->> 'wake_at')::timestamptz END,
                    CASE WHEN t.changes <> '{}' THEN (t.state -> 'spec' ->> 'run_at')::timestamptz END) AS wait
    FROM checkpoint_target t JOIN missions_sortie s ON s.id = t.sortie
), moved AS (
    UPDATE missions_sortie s
    SET agent_type_id = target.state ->> 'type',
        priority = (target.state ->> 'priority')::int,
        turn = %(origin)s + (target.state ->> 'order')::bigint,
        always = (target.state ->> 'always')::boolean,
        allow_failure = (target.state ->> 'allow_failure')::boolean,
        max_tries = (target.state ->> 'max_tries')::int,
        tries = (target.state ->> 'tries')::int,
        rescues = (target.state ->> 'rescues')::int,
        concurrency_key = target.state ->> 'concurrency_key',
        added_by_id = (
            SELECT adder.id FROM missions_sortie adder
            WHERE adder.mission_id = %(mission)s AND adder.key = target.state ->> 'added_by'),
        gated = true,
        cancel_requested = false,
        lease_until = NULL,
        state = CASE WHEN target.class <> 'due' THEN target.class
                     WHEN target.wait > clock_timestamp() THEN 'waiting'
                     ELSE 'ready' END,
        blocked_by_id = NULL,
        waits_on = CASE WHEN target.class = 'due' AND target.wait > clock_timestamp() THEN 'time' ELSE '' END,
        waits_for = CASE WHEN target.final THEN target.state ->> 'reason'
                         WHEN target.class = 'pending' OR target.wait IS NULL OR target.wait <= clock_timestamp() THEN ''
                         WHEN target.wait_until = target.wait THEN %(waits_for)s
                         ELSE target.kept ->> 'waits_for' END,
        wake_at = CASE WHEN target.final THEN target.wait_until ELSE target.wait END,
        attempt = s.attempt + coalesce(target.copied, false)::int,
        accepted = CASE WHEN target.final AND target.copied IS NOT TRUE AND target.accepted_number <> s.attempt
                        THEN target.accepted_number END,
        ready_at = CASE WHEN target.final THEN (target.kept ->> 'ready_at')::timestamptz
                        WHEN target.class = 'due' THEN clock_timestamp() END,
        started_at = CASE WHEN target.final THEN (target.kept ->> 'started_at')::timestamptz END,
        finished_at = CASE WHEN target.final
                           THEN coalesce((target.kept ->> 'finished_at')::timestamptz, clock_timestamp()) END
    FROM target
    WHERE s.id = target.sortie
    RETURNING s.id, s.mission_id, s.state, s.attempt, s.remaining, target.was, target.created, target.copied,
              target.final, target.state AS data, target.kept
), briefs AS (
    UPDATE missions_brief b
    SET spec = moved.data -> 'spec', alert_silence_s = (moved.data -> 'spec' ->> 'alert_silence_s')::float8
    FROM moved
    WHERE b.sortie_id = moved.id AND b.spec <> moved.data -> 'spec'
), attempts AS (
    INSERT INTO missions_attempt (
        sortie_id, number, state, started_at, finished_at, result, error, exit_code, cpu_s, max_rss_bytes, note)
    SELECT id, attempt, CASE WHEN final THEN coalesce(kept ->> 'outcome', state) ELSE 'lost' END, coalesce((kept ->> 'started_at')::timestamptz, clock_timestamp()),
           coalesce((kept ->> 'outcome_at')::timestamptz, clock_timestamp()), nullif(data -> 'result', 'null'),
           CASE WHEN final THEN data ->> 'error' ELSE 'It was interrupted by a restore.' END, (kept ->> 'exit_code')::int, (kept ->> 'cpu_s')::float8,
           (kept ->> 'max_rss_bytes')::bigint, coalesce(kept ->> 'note', '')
    FROM moved
    WHERE copied
), artifacts AS (
    INSERT INTO missions_artifact (id, sortie_id, attempt, path, digest, size, media_type)
    SELECT gen_random_uuid(), moved.id, moved.attempt, file ->> 'path', file ->> 'digest', (file ->> 'size')::bigint,
           file ->> 'media_type'
    FROM moved CROSS JOIN LATERAL jsonb_array_elements(moved.data -> 'artifacts') AS file
    WHERE copied
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.' || state, mission_id, id,
           jsonb_strip_nulls(jsonb_build_object(
               'from', CASE WHEN NOT created THEN was END, 'why', 'restore', 'checkpoint', %(checkpoint)s::text))
    FROM moved
    WHERE created OR was <> state
)
SELECT count(*) FROM moved
