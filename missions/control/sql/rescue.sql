-- Take sorties from lost agents: their lease has expired, or their host has seen that none of their processes is left.
--
-- Leases count only if the database's clock is reliable (`leases`). After that clock was set back, a lease that ends
-- later than `longest_lease` seconds from now was not renewed since, and counts as expired. Leases of external agents
-- count only if the site, through which they are renewed, has been up for a whole lease (`external`).
--
-- A sortie with a cancel request is cancelled. One that was rescued too often fails, because it may be what kills its
-- agents. The others are queued again.
WITH lost AS (
    SELECT s.id, m.state = 'paused' AS paused, m.state = 'cancelling' OR s.cancel_requested AS cancelling
    FROM missions_sortie s
    JOIN missions_mission m ON m.id = s.mission_id
    LEFT JOIN agents_agent a ON a.id = s.agent_id
    WHERE s.state = 'running'
      AND (a.reaped
           OR %(leases)s
              AND (s.lease_until < clock_timestamp()
                   OR s.lease_until > clock_timestamp() + make_interval(secs => %(longest_lease)s::float8))
              AND (%(external)s OR a.pid IS NOT NULL OR a.node_id IS NOT NULL OR a.id IS NULL))
    ORDER BY s.id
    LIMIT %(limit)s
    FOR NO KEY UPDATE OF s SKIP LOCKED
), taken AS (
    UPDATE missions_sortie s
    SET state = CASE WHEN lost.cancelling THEN 'cancelled'
                     WHEN s.rescues >= %(max_rescues)s THEN 'failed'
                     WHEN lost.paused THEN 'ready'
                     ELSE 'queued' END,
        rescues = least(s.rescues + 1, %(max_rescues)s),
        finished_at = CASE WHEN lost.cancelling OR s.rescues >= %(max_rescues)s THEN clock_timestamp() END,
        ready_at = CASE WHEN lost.cancelling OR s.rescues >= %(max_rescues)s THEN s.ready_at ELSE clock_timestamp() END,
        lease_until = NULL,
        cancel_requested = false
    FROM lost
    WHERE s.id = lost.id AND s.state = 'running'
    RETURNING s.id, s.mission_id, s.agent_type_id, s.attempt, s.agent_id, s.state, s.allow_failure
), attempts AS (
    UPDATE missions_attempt a
    SET state = 'lost', finished_at = clock_timestamp(),
        error = CASE taken.state
            WHEN 'failed' THEN 'Its agent was lost while it ran, after ' || %(max_rescues)s
                || ' rescues, which is the limit: it may be killing its agents. See the agents'' logs, then retry it.'
            ELSE 'Its agent was lost while it ran.' END
    FROM taken
    WHERE a.sortie_id = taken.id AND a.number = taken.attempt
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.' || state, mission_id, id,
           jsonb_build_object('from', 'running', 'attempt', attempt, 'why', 'agent lost', 'agent', agent_id)
    FROM taken
)
SELECT id, mission_id, agent_type_id, state, allow_failure FROM taken
