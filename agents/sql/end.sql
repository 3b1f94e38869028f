-- End live agents: `state` is terminated, lost or failed. Agents that have ended already do not change. An agent that
-- was ordered to end keeps the reason of its order. `reaped`: its node has seen that no process of its work is left.
WITH ended AS (
    UPDATE agents_agent a
    SET state = %(state)s, ended_at = clock_timestamp(), reaped = %(reaped)s,
        reason = CASE WHEN %(state)s = 'terminated' AND a."order" <> '' AND a.reason <> '' THEN a.reason
                      ELSE %(reason)s END
    WHERE a.id = ANY (%(agents)s) AND a.state IN ('spawning', 'idle', 'busy', 'draining')
    RETURNING a.id, a.type_id, a.reason
), events AS (
    INSERT INTO fleet_event (kind, subject, data)
    SELECT 'agent.' || %(state)s, id, jsonb_build_object('type', type_id, 'why', reason) FROM ended
)
SELECT id FROM ended
