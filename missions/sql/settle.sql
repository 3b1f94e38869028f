-- Accept what agents say became of their running attempts, for many at once, and free the sorties that needed them.
-- An attempt that is not the running one changes nothing: it is missing from the rows that come back.
-- Each dependent is counted down once, whatever number of its needs ended in this list.
WITH said AS (
    SELECT * FROM unnest(
        %(ids)s::uuid[], %(attempts)s::int[], %(states)s::text[], %(outcomes)s::text[], %(charges)s::int[],
        %(delays)s::float8[], %(waits)s::text[], %(results)s::jsonb[], %(errors)s::text[], %(exits)s::int[],
        %(cpus)s::float8[], %(rss)s::bigint[]
    ) AS t (id, attempt, state, outcome, charge, delay, waits, result, error, exit_code, cpu_s, max_rss_bytes)
), held AS (
    SELECT s.id
    FROM missions_sortie s JOIN said ON said.id = s.id
    WHERE s.state = 'running' AND s.attempt = said.attempt
    ORDER BY s.id
    FOR UPDATE OF s
), settled AS (
    UPDATE missions_sortie s
    SET state = said.state,
        tries = s.tries + said.charge,
        lease_until = NULL,
        cancel_requested = false,
        wake_at = CASE said.state WHEN 'waiting' THEN clock_timestamp() + make_interval(secs => said.delay) END,
        waits_for = said.waits,
        finished_at = CASE WHEN said.state <> 'waiting' THEN clock_timestamp() END
    FROM said JOIN held ON held.id = said.id
    WHERE s.id = said.id
    RETURNING s.id, s.mission_id, s.agent_type_id, s.attempt, s.state,
              s.state IN ('failed', 'cancelled') AND NOT (s.state = 'failed' AND s.allow_failure) AS bad
), attempts AS (
    UPDATE missions_attempt a
    SET state = said.outcome, finished_at = clock_timestamp(), result = said.result, error = said.error,
        exit_code = said.exit_code, cpu_s = said.cpu_s, max_rss_bytes = said.max_rss_bytes
    FROM settled JOIN said ON said.id = settled.id
    WHERE a.sortie_id = settled.id AND a.number = settled.attempt
), ended AS (
    SELECT n.sortie_id AS id, count(*) AS needs
    FROM settled
    JOIN missions_need n ON n.upstream_id = settled.id
    JOIN missions_sortie d ON d.id = n.sortie_id
    WHERE settled.state <> 'waiting' AND (d.always OR NOT settled.bad)
    GROUP BY n.sortie_id
), dependents AS (
    SELECT d.id FROM missions_sortie d
    WHERE d.id IN (SELECT id FROM ended) AND d.state = 'pending'
    ORDER BY d.id
    FOR UPDATE
), freed AS (
    UPDATE missions_sortie d
    SET remaining = d.remaining - ended.needs,
        state = CASE WHEN d.remaining > ended.needs THEN 'pending'
                     WHEN d.gated OR m.state <> 'running' THEN 'ready'
                     ELSE 'queued' END,
        ready_at = CASE WHEN d.remaining > ended.needs THEN NULL ELSE clock_timestamp() END
    FROM ended, dependents, missions_mission m
    WHERE d.id = ended.id AND dependents.id = ended.id AND m.id = d.mission_id AND d.state = 'pending'
    RETURNING d.id, d.mission_id, d.agent_type_id, d.state
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.' || settled.state, mission_id, settled.id,
           jsonb_strip_nulls(jsonb_build_object(
               'from', 'running', 'attempt', settled.attempt, 'error', nullif(left(said.error, 500), '')))
    FROM settled JOIN said ON said.id = settled.id
    UNION ALL
    SELECT 'sortie.' || state, mission_id, id, '{"from": "pending"}' FROM freed WHERE state <> 'pending'
)
SELECT true AS settled, id, mission_id, agent_type_id, state, bad FROM settled
UNION ALL
SELECT false, id, mission_id, agent_type_id, state, false FROM freed WHERE state <> 'pending'
