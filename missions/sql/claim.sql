-- Take up to %(limit)s queued sorties of one type for one agent: the most urgent first, then in the fair order
-- between missions. Rows that another agent is just taking are passed over. An agent that has been given up gets none.
WITH picked AS (
    SELECT s.id
    FROM missions_sortie s
    WHERE s.agent_type_id = %(type)s
      AND s.state = 'queued'
      AND EXISTS (SELECT FROM missions_mission m WHERE m.id = s.mission_id AND m.state = 'running')
      AND EXISTS (SELECT FROM agents_agent a WHERE a.id = %(agent)s AND a.state IN ('spawning', 'idle', 'busy'))
    ORDER BY s.priority DESC, s.turn, s.id
    LIMIT %(limit)s
    FOR UPDATE OF s SKIP LOCKED
), claimed AS (
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
), attempts AS (
    INSERT INTO missions_attempt (sortie_id, number, agent_id, state, started_at)
    SELECT id, attempt, %(agent)s, 'running', clock_timestamp() FROM claimed
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.running', mission_id, id,
           jsonb_build_object('from', 'queued', 'attempt', attempt, 'agent', %(agent)s::text)
    FROM claimed
)
SELECT c.id, c.mission_id, c.key, c.attempt, c.tries, c.max_tries, b.spec
FROM claimed c JOIN missions_brief b ON b.sortie_id = c.id
ORDER BY c.priority DESC, c.turn, c.id
