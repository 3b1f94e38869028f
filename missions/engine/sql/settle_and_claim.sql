-- All that an agent says and wants, in one statement: what became of its attempts, and how many sorties it can take.
--
-- 1. Outcomes whose attempt is the running one are accepted; the others change nothing and are missing from the answer.
--    A try that failed after somebody asked for its end is not followed by another one.
-- 2. Each dependent is counted down once, whatever number of its needs ended in this list; those that wait for nothing
--    more are freed.
-- 3. The agent goes on with what it freed for its own type, unless something more urgent is queued. The rest of what it
--    wants comes from the queue: the most urgent first, then in the fair order between missions. Rows that another agent
--    is just taking are passed over. An agent that has been given up gets none.
--
-- Where two of these meet at one dependent, the second waits for the first at `FOR UPDATE` and then reads the row anew.
WITH said AS (
    SELECT * FROM json_to_recordset(%(said)s) AS t (
        id uuid, attempt int, state text, outcome text, charge int, delay_s float8, waits_for text, result text,
        error text, exit_code int, cpu_s float8, max_rss_bytes bigint)
), held AS (
    SELECT said.id, said.attempt, said.outcome, said.charge, said.delay_s, said.waits_for, said.result, said.error,
           said.exit_code, said.cpu_s, said.max_rss_bytes, s.allow_failure,
           CASE WHEN said.state = 'waiting' AND s.cancel_requested THEN 'cancelled' ELSE said.state END AS state
    FROM said JOIN missions_sortie s ON s.id = said.id
    WHERE s.state = 'running' AND s.attempt = said.attempt
    ORDER BY s.id
    FOR UPDATE OF s
), settled AS (
    UPDATE missions_sortie s
    SET state = held.state,
        tries = s.tries + held.charge,
        lease_until = NULL,
        cancel_requested = false,
        wake_at = CASE held.state WHEN 'waiting' THEN clock_timestamp() + make_interval(secs => held.delay_s) END,
        waits_for = CASE held.state WHEN 'waiting' THEN held.waits_for ELSE '' END,
        finished_at = CASE WHEN held.state <> 'waiting' THEN clock_timestamp() END
    FROM held
    WHERE s.id = held.id
    RETURNING held.*, s.mission_id, s.agent_type_id,
              held.state = 'cancelled' OR held.state = 'failed' AND NOT held.allow_failure AS bad
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
    JOIN missions_need n ON n.upstream_id = settled.id
    JOIN missions_sortie d ON d.id = n.sortie_id
    WHERE settled.state <> 'waiting' AND (d.always OR NOT settled.bad)
    GROUP BY n.sortie_id
), dependents AS (
    SELECT d.id, d.agent_type_id, d.priority, d.turn, d.remaining - ended.needs AS remaining,
           CASE WHEN d.remaining > ended.needs THEN 'pending'
                WHEN d.gated OR m.state <> 'running' THEN 'ready'
                ELSE 'queued' END AS state
    FROM ended
    JOIN missions_sortie d ON d.id = ended.id
    JOIN missions_mission m ON m.id = d.mission_id
    WHERE d.state = 'pending'
    ORDER BY d.id
    FOR UPDATE OF d
), able AS (
    SELECT FROM agents_agent
    WHERE id = %(agent)s AND state IN ('spawning', 'idle', 'busy') AND %(want)s > 0
), first AS (
    SELECT priority, turn, id
    FROM missions_sortie
    WHERE agent_type_id = %(type)s AND state = 'queued' AND EXISTS (SELECT FROM able)
    ORDER BY priority DESC, turn, id
    LIMIT 1
), going_on AS (
    SELECT d.id
    FROM dependents d
    WHERE d.state = 'queued' AND d.agent_type_id = %(type)s AND EXISTS (SELECT FROM able)
      AND NOT EXISTS (SELECT FROM first f WHERE (-f.priority, f.turn, f.id) < (-d.priority, d.turn, d.id))
    ORDER BY d.priority DESC, d.turn, d.id
    LIMIT %(want)s
), freed AS (
    UPDATE missions_sortie s
    SET remaining = d.remaining,
        state = CASE WHEN g.id IS NULL THEN d.state ELSE 'running' END,
        ready_at = CASE WHEN d.state <> 'pending' THEN clock_timestamp() END,
        attempt = CASE WHEN g.id IS NULL THEN s.attempt ELSE s.attempt + 1 END,
        agent_id = CASE WHEN g.id IS NULL THEN s.agent_id ELSE %(agent)s END,
        lease_until = CASE WHEN g.id IS NOT NULL THEN clock_timestamp() + make_interval(secs => %(lease)s) END,
        started_at = CASE WHEN g.id IS NOT NULL THEN clock_timestamp() END,
        waits_for = CASE WHEN g.id IS NULL THEN s.waits_for ELSE '' END
    FROM dependents d LEFT JOIN going_on g ON g.id = d.id
    WHERE s.id = d.id
    RETURNING s.id, s.mission_id, s.agent_type_id, d.state, g.id IS NOT NULL AS claimed,
              s.key, s.attempt, s.tries, s.max_tries, s.priority, s.turn
), picked AS (
    SELECT s.id
    FROM missions_sortie s
    WHERE s.agent_type_id = %(type)s AND s.state = 'queued' AND EXISTS (SELECT FROM able)
      AND EXISTS (SELECT FROM missions_mission m WHERE m.id = s.mission_id AND m.state = 'running')
    ORDER BY s.priority DESC, s.turn, s.id
    LIMIT %(want)s - (SELECT count(*) FROM going_on)
    FOR UPDATE OF s SKIP LOCKED
), taken AS (
    UPDATE missions_sortie s
    SET state = 'running',
        attempt = s.attempt + 1,
        agent_id = %(agent)s,
        lease_until = clock_timestamp() + make_interval(secs => %(lease)s),
        started_at = clock_timestamp(),
        waits_for = ''
    FROM picked
    WHERE s.id = picked.id
    RETURNING s.id, s.mission_id, s.key, s.attempt, s.tries, s.max_tries, s.priority, s.turn
), claimed AS (
    SELECT id, mission_id, key, attempt, tries, max_tries, priority, turn FROM freed WHERE claimed
    UNION ALL
    SELECT * FROM taken
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
