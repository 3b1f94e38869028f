-- Settle the attempts of an agent and claim sorties for it, in one statement.
--
-- 1. A settlement is accepted if its attempt is the running one; the others change nothing and are absent from the
--    result. A failed try is not followed by another one if the sortie has a cancel request.
-- 2. Each dependent is counted down once, however many of its needs ended in this list. Those that wait for nothing
--    more are freed.
-- 3. The agent continues with sorties that it freed for its own type, unless something more urgent is queued. The rest
--    of the sorties that it wants come from the queue: the most urgent first, then by the fair order between missions.
--    Rows that another agent is claiming are skipped. An agent that is no longer live gets none, and neither does an
--    agent of a node whose type was reserved for external agents. An external agent gets none whose work only needs to
--    be merged, or conflicts: that needs a copy of the repository.
--
-- If two of these statements meet at one dependent, the second waits at `FOR NO KEY UPDATE` for the first, then rereads
-- the row. `locked` looks up each sortie by its key, whatever the statistics were when the statement was planned: for a
-- join with `state = 'running'`, Postgres may read all running sorties once per settlement. A running sortie is one
-- with a lease. `bad` is whether it ended badly.
WITH settlement AS (
    SELECT * FROM json_to_recordset(%(settlements)s) AS t (
        id uuid, attempt int, state text, outcome text, charge int, delay_s float8, waits_on text, waits_for text,
        blocked_by uuid, result text, error text, exit_code int, cpu_s float8, max_rss_bytes bigint)
), locked AS (
    SELECT new.id, new.attempt, new.outcome, new.charge, new.delay_s, new.waits_on, new.waits_for,
           new.blocked_by, new.result, new.error, new.exit_code, new.cpu_s, new.max_rss_bytes, s.allow_failure,
           CASE WHEN new.state = 'waiting' AND s.cancel_requested THEN 'cancelled' ELSE new.state END AS state
    FROM (SELECT * FROM settlement ORDER BY id) new
    CROSS JOIN LATERAL (
        SELECT allow_failure, cancel_requested
        FROM missions_sortie
        WHERE id = new.id AND attempt = new.attempt AND lease_until IS NOT NULL
        FOR NO KEY UPDATE
    ) s
), settled AS (
    UPDATE missions_sortie s
    SET state = locked.state,
        tries = s.tries + locked.charge,
        lease_until = NULL,
        cancel_requested = false,
        waits_on = CASE locked.state WHEN 'waiting' THEN locked.waits_on ELSE '' END,
        wake_at = CASE WHEN locked.state = 'waiting' AND locked.waits_on = 'time'
                       THEN clock_timestamp() + make_interval(secs => locked.delay_s) END,
        waits_for = CASE locked.state WHEN 'waiting' THEN locked.waits_for ELSE '' END,
        blocked_by_id = locked.blocked_by,
        finished_at = CASE WHEN locked.state <> 'waiting' THEN clock_timestamp() END
    FROM locked
    WHERE s.id = locked.id
    RETURNING locked.*, s.mission_id, s.agent_type_id,
              @missions.sortie_ended_badly(locked) AS bad
), recorded AS (
    UPDATE missions_attempt a
    SET state = settled.outcome, finished_at = clock_timestamp(), result = settled.result::jsonb,
        error = settled.error, exit_code = settled.exit_code, cpu_s = settled.cpu_s,
        max_rss_bytes = settled.max_rss_bytes
    FROM settled
    WHERE a.sortie_id = settled.id AND a.number = settled.attempt
), ended AS (
    SELECT n.sortie_id AS id, count(*) AS needs
    FROM settled
    CROSS JOIN LATERAL (SELECT sortie_id FROM missions_need WHERE upstream_id = settled.id OFFSET 0) n
    WHERE settled.state <> 'waiting'
      AND (NOT settled.bad OR (SELECT d.always FROM missions_sortie d WHERE d.id = n.sortie_id))
    GROUP BY n.sortie_id
), dependents AS (
    SELECT d.id, d.agent_type_id, d.priority, d.turn, d.remaining - ended.needs AS remaining,
           CASE WHEN d.remaining > ended.needs THEN 'pending'
                WHEN d.gated OR (SELECT m.state FROM missions_mission m WHERE m.id = d.mission_id) <> 'running'
                THEN 'ready'
                ELSE 'queued' END AS state
    FROM (SELECT * FROM ended ORDER BY id) ended
    CROSS JOIN LATERAL (
        SELECT id, mission_id, agent_type_id, priority, turn, remaining, gated
        FROM missions_sortie
        WHERE id = ended.id AND state = 'pending'
        FOR NO KEY UPDATE
    ) d
), able_agent AS (
    SELECT FROM agents_agent a JOIN agents_agenttype t ON t.name = a.type_id
    WHERE a.id = %(agent)s AND a.state IN ('spawning', 'idle', 'busy') AND %(max_claims)s > 0
      AND (%(external)s OR NOT t.external)
), most_urgent AS (
    SELECT priority, turn, id
    FROM missions_sortie
    WHERE agent_type_id = %(type)s AND state = 'queued' AND EXISTS (SELECT FROM able_agent)
    ORDER BY priority DESC, turn, id
    LIMIT 1
), continued AS (
    SELECT d.id
    FROM dependents d
    WHERE d.state = 'queued' AND d.agent_type_id = %(type)s AND EXISTS (SELECT FROM able_agent)
      AND NOT EXISTS (SELECT FROM most_urgent u WHERE (-u.priority, u.turn, u.id) < (-d.priority, d.turn, d.id))
    ORDER BY d.priority DESC, d.turn, d.id
    LIMIT %(max_claims)s
), freed AS (
    UPDATE missions_sortie s
    SET remaining = d.remaining,
        state = CASE WHEN c.id IS NULL THEN d.state ELSE 'running' END,
        ready_at = CASE WHEN d.state <> 'pending' THEN clock_timestamp() END,
        attempt = CASE WHEN c.id IS NULL THEN s.attempt ELSE s.attempt + 1 END,
        agent_id = CASE WHEN c.id IS NULL THEN s.agent_id ELSE %(agent)s END,
        lease_until = CASE WHEN c.id IS NOT NULL THEN clock_timestamp() + make_interval(secs => %(lease)s) END,
        started_at = CASE WHEN c.id IS NOT NULL THEN clock_timestamp() END,
        waits_for = CASE WHEN c.id IS NULL THEN s.waits_for ELSE '' END
    FROM dependents d LEFT JOIN continued c ON c.id = d.id
    WHERE s.id = d.id
    RETURNING s.id, s.mission_id, s.agent_type_id, d.state, c.id IS NOT NULL AS claimed,
              s.key, s.attempt, s.tries, s.max_tries, s.priority, s.turn
), next_in_queue AS (
    SELECT s.id
    FROM missions_sortie s
    WHERE s.agent_type_id = %(type)s AND s.state = 'queued' AND EXISTS (SELECT FROM able_agent)
      AND EXISTS (SELECT FROM missions_mission m WHERE m.id = s.mission_id AND m.state = 'running')
      AND (NOT %(external)s
           OR NOT EXISTS (SELECT FROM missions_change c
                          WHERE c.sortie_id = s.id AND c.state IN ('committed', 'landing', 'conflicted'))
              AND NOT EXISTS (SELECT FROM missions_patch p WHERE p.sortie_id = s.id))
    ORDER BY s.priority DESC, s.turn, s.id
    LIMIT %(max_claims)s - (SELECT count(*) FROM continued)
    FOR NO KEY UPDATE OF s SKIP LOCKED
), claimed_from_queue AS (
    UPDATE missions_sortie s
    SET state = 'running',
        attempt = s.attempt + 1,
        agent_id = %(agent)s,
        lease_until = clock_timestamp() + make_interval(secs => %(lease)s),
        started_at = clock_timestamp(),
        waits_for = ''
    FROM next_in_queue
    WHERE s.id = next_in_queue.id
    RETURNING s.id, s.mission_id, s.key, s.attempt, s.tries, s.max_tries, s.priority, s.turn
), claimed AS (
    SELECT id, mission_id, key, attempt, tries, max_tries, priority, turn FROM freed WHERE claimed
    UNION ALL
    SELECT * FROM claimed_from_queue
), started AS (
    INSERT INTO missions_attempt (sortie_id, number, agent_id, state, started_at)
    SELECT id, attempt, %(agent)s, 'running', clock_timestamp() FROM claimed
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.' || state, mission_id, id,
           jsonb_strip_nulls(jsonb_build_object(
               'from', 'running', 'attempt', attempt, 'error', nullif(left(error, 500), '')))
    FROM settled
    UNION ALL
    SELECT 'sortie.' || state, mission_id, id, '{"from": "pending"}' FROM freed WHERE state <> 'pending'
    UNION ALL
    SELECT 'sortie.running', mission_id, id,
           jsonb_build_object('from', 'queued', 'attempt', attempt, 'agent', %(agent)s::text)
    FROM claimed
)
SELECT 'settled', id, mission_id, agent_type_id, state, bad,
       NULL AS key, NULL::int AS attempt, NULL::int AS tries, NULL::int AS max_tries, NULL::jsonb AS spec
FROM settled
UNION ALL
SELECT 'freed', id, mission_id, agent_type_id, state, false, NULL, NULL, NULL, NULL, NULL
FROM freed WHERE state <> 'pending' AND NOT claimed
UNION ALL (
    SELECT 'claimed', c.id, c.mission_id, %(type)s, 'running', false, c.key, c.attempt, c.tries, c.max_tries, b.spec
    FROM claimed c JOIN missions_brief b ON b.sortie_id = c.id
    ORDER BY c.priority DESC, c.turn, c.id
)
