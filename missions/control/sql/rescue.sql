-- Take sorties from agents that are gone: their lease is over (`leases`: the database's clock can be relied on), or their
-- host saw that nothing of their work runs any more. Where that clock was set back, a lease that reaches further than
-- `reach` seconds is from before and was not renewed since. The lease of an external agent counts only once the site,
-- through which it is renewed, has been up for as long (`outside`).
-- A sortie that was to be cancelled is cancelled; one that was rescued too often is failed, for it may be
-- what kills its workers; the others are queued again.
WITH lost AS (
    SELECT s.id, m.state = 'paused' AS paused, m.state = 'cancelling' OR s.cancel_requested AS unwanted
    FROM missions_sortie s
    JOIN missions_mission m ON m.id = s.mission_id
    LEFT JOIN agents_agent a ON a.id = s.agent_id
    WHERE s.state = 'running'
      AND (a.reaped
           OR %(leases)s
              AND (s.lease_until < clock_timestamp()
                   OR s.lease_until > clock_timestamp() + make_interval(secs => %(reach)s::float8))
              AND (%(outside)s OR a.pid IS NOT NULL OR a.node_id IS NOT NULL OR a.id IS NULL))
    ORDER BY s.id
    LIMIT %(limit)s
    FOR UPDATE OF s SKIP LOCKED
), taken AS (
    UPDATE missions_sortie s
    SET state = CASE WHEN lost.unwanted THEN 'cancelled'
                     WHEN s.rescues >= %(max_rescues)s THEN 'failed'
                     WHEN lost.paused THEN 'ready'
                     ELSE 'queued' END,
        rescues = least(s.rescues + 1, %(max_rescues)s),
        finished_at = CASE WHEN lost.unwanted OR s.rescues >= %(max_rescues)s THEN clock_timestamp() END,
        ready_at = CASE WHEN lost.unwanted OR s.rescues >= %(max_rescues)s THEN s.ready_at ELSE clock_timestamp() END,
        lease_until = NULL,
        cancel_requested = false
    FROM lost
    WHERE s.id = lost.id AND s.state = 'running'
    RETURNING s.id, s.mission_id, s.agent_type_id, s.attempt, s.agent_id, s.state,
              s.state = 'cancelled' OR (s.state = 'failed' AND NOT s.allow_failure) AS bad
), attempts AS (
    UPDATE missions_attempt a
    SET state = 'lost', finished_at = clock_timestamp(),
        error = CASE taken.state
            WHEN 'failed' THEN 'Its agent was lost in mid-flight, once more than the ' || %(max_rescues)s
                || ' rescues that a sortie gets: it may be what kills its agents. See the agents'' logs, then retry it.'
            ELSE 'Its agent was lost in mid-flight.' END
    FROM taken
    WHERE a.sortie_id = taken.id AND a.number = taken.attempt
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.' || state, mission_id, id,
           jsonb_build_object('from', 'running', 'attempt', attempt, 'why', 'agent lost', 'agent', agent_id)
    FROM taken
)
SELECT true AS settled, id, mission_id, agent_type_id, state, bad FROM taken
