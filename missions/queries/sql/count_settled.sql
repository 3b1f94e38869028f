-- Add the new events to the totals: those that are visible now and were not visible in the snapshot `seen`. Each event
-- is counted once, in whatever order transactions commit. `settled` only bounds the search: no event up to that id is
-- new. A restore puts back outcomes that were counted when they happened.
WITH fresh AS MATERIALIZED (
    SELECT e.kind, e.subject, e.data,
           max(e.at) FILTER (WHERE e.kind IN ('sortie.ready', 'sortie.queued')) OVER (
               PARTITION BY e.subject ORDER BY e.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
           ) AS made_ready_at
    FROM fleet_event e
    WHERE e.id > %(settled)s
      AND NOT pg_visible_in_snapshot(e.xid::text::xid8, %(seen)s::pg_snapshot)
      AND e.kind NOT IN ('sortie.running', 'sortie.pending')
      AND e.data ->> 'why' IS DISTINCT FROM 'restore'
), sorties AS (
    SELECT f.kind, f.data ->> 'why' AS why, s.id, s.agent_type_id AS type,
           CASE WHEN s.ready_at <= a.started_at OR s.finished_at IS NOT NULL AND s.attempt = a.number THEN s.ready_at
                ELSE f.made_ready_at END AS ready_at,  -- by now it may be ready again, for the next try
           a.number, a.state AS outcome, a.started_at, extract(epoch FROM a.finished_at - a.started_at)::float8 AS run
    FROM fresh f
    JOIN missions_sortie s ON s.id = f.subject
    LEFT JOIN missions_attempt a
        ON f.data ->> 'from' = 'running' AND a.sortie_id = s.id AND a.number = (f.data ->> 'attempt')::int
    WHERE f.kind IN ('sortie.succeeded', 'sortie.failed', 'sortie.cancelled', 'sortie.skipped')
       OR f.kind LIKE 'sortie.%%' AND f.data ->> 'from' = 'running'
), counted AS (
    SELECT 'sorties' AS series, type AS subject, substr(kind, 8) AS outcome, NULL::float8 AS seconds
    FROM sorties WHERE kind IN ('sortie.succeeded', 'sortie.failed', 'sortie.cancelled', 'sortie.skipped')
    UNION ALL
    SELECT 'attempts', type, outcome, greatest(run, 0) FROM sorties WHERE number IS NOT NULL
    UNION ALL
    -- From (last) queued to claimed. An attempt is left out if its sortie waited through an earlier count and was
    -- queued again before this one.
    SELECT 'waits', type, '', greatest(extract(epoch FROM started_at - ready_at)::float8, 0)
    FROM sorties s
    WHERE number IS NOT NULL AND ready_at IS NOT NULL
      AND NOT EXISTS (
          SELECT FROM missions_attempt p
          WHERE p.sortie_id = s.id AND p.number = s.number - 1 AND p.started_at >= s.ready_at)
    UNION ALL
    -- An attempt whose change waits for its merge or conflicts has the outcome `committed`: it has not failed.
    SELECT 'retries', type, '', NULL FROM sorties WHERE outcome = 'failed' AND kind = 'sortie.waiting'
    UNION ALL
    SELECT 'losses', type, '', NULL FROM sorties WHERE number IS NOT NULL AND why = 'agent lost'
    UNION ALL
    SELECT 'missions', '', substr(kind, 9), NULL
    FROM fresh WHERE kind IN ('mission.succeeded', 'mission.failed', 'mission.cancelled')
    UNION ALL
    SELECT 'agents', data ->> 'type', substr(kind, 7), NULL
    FROM fresh WHERE kind IN ('agent.terminated', 'agent.lost', 'agent.failed') AND data ->> 'type' IS NOT NULL
    UNION ALL
    SELECT 'restarts', left(data ->> 'service', 60), '', NULL
    FROM fresh WHERE kind = 'service.restarted' AND data ->> 'service' IS NOT NULL
    UNION ALL
    SELECT 'schedules', '', substr(kind, 10),
           CASE WHEN kind = 'schedule.launched' THEN (data ->> 'late_s')::float8 END
    FROM fresh WHERE kind IN ('schedule.launched', 'schedule.skipped', 'schedule.failed')
    UNION ALL
    SELECT 'schedules', '', 'missed', NULL
    FROM fresh CROSS JOIN LATERAL generate_series(1, (data ->> 'missed')::int)
    WHERE kind LIKE 'schedule.%%' AND data ? 'missed'
), added AS (
    INSERT INTO missions_counter (series, subject, outcome, bucket, number, seconds)
    SELECT series, subject, outcome, coalesce(width_bucket(seconds, %(bounds)s::float8[]), 0), count(*),
           coalesce(sum(seconds), 0)
    FROM counted
    GROUP BY 1, 2, 3, 4
    ON CONFLICT (series, subject, outcome, bucket) DO UPDATE
        SET number = missions_counter.number + excluded.number, seconds = missions_counter.seconds + excluded.seconds
)
SELECT pg_current_snapshot()::text, (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM fleet_event_id_seq), (SELECT count(*) FROM fresh)
