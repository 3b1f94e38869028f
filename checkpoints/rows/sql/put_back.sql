-- Write sorties as a checkpoint has them: create the missing rows, and change the others. `accepted` is the number of the
-- attempt whose outcome stands. If the row is not the captured one, the outcome is copied to a new attempt; with
-- `resume_data`, so is the value that the next attempt resumes from. A sortie that may run waits until no process of an
-- earlier attempt is left; if it may only run later, `wake_at` has that time. `recount` sets `remaining` afterwards.
-- An attempt that was running has no known end: its copy ends when it started, because it did not run until the restore.
WITH sortie_by_key AS (
    SELECT id, key FROM missions_sortie WHERE mission_id = %(mission)s
    UNION ALL
    SELECT sortie, state ->> 'key' FROM checkpoint_target WHERE created
), target AS (
    SELECT t.sortie AS id, t.created, t.state AS data, t.kept, t.wait_until, s.state AS was, adder.id AS added_by_id,
           f.final, f.class, f.wait, f.class = 'due' AND f.wait > clock_timestamp() AS must_wait,
           c.copied, coalesce(s.attempt, 0) + c.copied::int AS attempt
    FROM checkpoint_target t
    LEFT JOIN missions_sortie s ON s.id = t.sortie
    LEFT JOIN sortie_by_key adder ON adder.key = t.state ->> 'added_by'
    CROSS JOIN LATERAL (
        SELECT t.state ->> 'state' AS class, t.state ->> 'state' NOT IN ('pending', 'due') AS final,
               greatest(t.wait_until, CASE WHEN t.kept ->> 'state' IN ('pending', 'waiting', 'ready')
                                           THEN (t.kept ->> 'wake_at')::timestamptz END,
                        CASE WHEN t.changes <> '{}' THEN (t.state -> 'spec' ->> 'run_at')::timestamptz END) AS wait
    ) f
    CROSS JOIN LATERAL (
        SELECT coalesce(
            (t.kept ->> 'sortie')::uuid <> t.sortie
            AND CASE WHEN f.final THEN (t.kept ->> 'accepted')::int > 0
                     ELSE %(resume_data)s AND coalesce(jsonb_typeof(t.kept -> 'resume'), 'null') <> 'null' END,
            false) AS copied
    ) c
), sortie AS (
    SELECT id, created, added_by_id, attempt,
           data ->> 'key' AS key,
           data ->> 'type' AS agent_type_id,
           (data ->> 'priority')::int AS priority,
           %(origin)s + (data ->> 'order')::bigint AS turn,
           (data ->> 'always')::boolean AS always,
           (data ->> 'allow_failure')::boolean AS allow_failure,
           (data ->> 'max_tries')::int AS max_tries,
           (data ->> 'tries')::int AS tries,
           (data ->> 'rescues')::int AS rescues,
           data ->> 'concurrency_key' AS concurrency_key,
           CASE WHEN class <> 'due' THEN class WHEN must_wait THEN 'waiting' ELSE 'ready' END AS state,
           CASE WHEN must_wait THEN 'time' ELSE '' END AS waits_on,
           CASE WHEN final THEN data ->> 'reason'
                WHEN must_wait IS NOT TRUE THEN ''
                WHEN wait_until = wait THEN %(waits_for)s
                ELSE kept ->> 'waits_for' END AS waits_for,
           CASE WHEN final THEN wait_until ELSE wait END AS wake_at,
           CASE WHEN final AND NOT copied THEN nullif((kept ->> 'accepted')::int, attempt) END AS accepted,
           CASE WHEN final THEN (kept ->> 'ready_at')::timestamptz
                WHEN class = 'due' THEN clock_timestamp() END AS ready_at,
           CASE WHEN final THEN (kept ->> 'started_at')::timestamptz END AS started_at,
           CASE WHEN final THEN coalesce((kept ->> 'finished_at')::timestamptz, clock_timestamp()) END AS finished_at
    FROM target
), created AS (
    INSERT INTO missions_sortie (
        id, mission_id, key, agent_type_id, priority, turn, always, allow_failure, max_tries, tries, rescues,
        concurrency_key, added_by_id, gated, cancel_requested, state, waits_on, waits_for, wake_at, attempt, accepted,
        ready_at, started_at, finished_at, remaining)
    SELECT id, %(mission)s, key, agent_type_id, priority, turn, always, allow_failure, max_tries, tries, rescues,
           concurrency_key, added_by_id, true, false, state, waits_on, waits_for, wake_at, attempt, accepted,
           ready_at, started_at, finished_at, 0
    FROM sortie
    WHERE sortie.created
), changed AS (
    UPDATE missions_sortie s
    SET (agent_type_id, priority, turn, always, allow_failure, max_tries, tries, rescues, concurrency_key, added_by_id,
         gated, cancel_requested, lease_until, blocked_by_id, state, waits_on, waits_for, wake_at, attempt, accepted,
         ready_at, started_at, finished_at) = ROW (
         n.agent_type_id, n.priority, n.turn, n.always, n.allow_failure, n.max_tries, n.tries, n.rescues,
         n.concurrency_key, n.added_by_id, true, false, NULL, NULL, n.state, n.waits_on, n.waits_for, n.wake_at,
         n.attempt, n.accepted, n.ready_at, n.started_at, n.finished_at)
    FROM sortie n
    WHERE s.id = n.id AND NOT n.created
), created_briefs AS (
    INSERT INTO missions_brief (sortie_id, spec, alert_silence_s)
    SELECT id, data -> 'spec', (data -> 'spec' ->> 'alert_silence_s')::float8
    FROM target
    WHERE created
), changed_briefs AS (
    UPDATE missions_brief b
    SET spec = target.data -> 'spec', alert_silence_s = (target.data -> 'spec' ->> 'alert_silence_s')::float8
    FROM target
    WHERE b.sortie_id = target.id AND NOT target.created AND b.spec <> target.data -> 'spec'
), attempts AS (
    INSERT INTO missions_attempt (
        sortie_id, number, state, started_at, finished_at, result, error, exit_code, cpu_s, max_rss_bytes, note)
    SELECT id, attempt, CASE WHEN final THEN coalesce(kept ->> 'outcome', class) ELSE 'lost' END,
           coalesce((kept ->> 'started_at')::timestamptz, (kept ->> 'outcome_at')::timestamptz, clock_timestamp()),
           coalesce((kept ->> 'outcome_at')::timestamptz, (kept ->> 'started_at')::timestamptz, clock_timestamp()),
           nullif(data -> 'result', 'null'),
           CASE WHEN final THEN data ->> 'error' ELSE 'It was interrupted by a restore.' END,
           (kept ->> 'exit_code')::int, (kept ->> 'cpu_s')::float8, (kept ->> 'max_rss_bytes')::bigint,
           coalesce(kept ->> 'note', '')
    FROM target
    WHERE copied
), artifacts AS (
    INSERT INTO missions_artifact (id, sortie_id, attempt, path, digest, size, media_type)
    SELECT gen_random_uuid(), target.id, target.attempt, file ->> 'path', file ->> 'digest', (file ->> 'size')::bigint,
           file ->> 'media_type'
    FROM target CROSS JOIN LATERAL jsonb_array_elements(target.data -> 'artifacts') AS file
    WHERE copied
)
INSERT INTO fleet_event (kind, scope, subject, data)
SELECT 'sortie.' || sortie.state, %(mission)s, sortie.id,
       jsonb_strip_nulls(jsonb_build_object('from', target.was, 'why', 'restore', 'checkpoint', %(checkpoint)s::text))
FROM sortie JOIN target USING (id)
WHERE target.was IS DISTINCT FROM sortie.state
