-- End live agents: `state` is terminated, lost or failed. Those that have ended already stay as they are. One that
-- ended because it was told to keeps the reason that it was given. `reaped`: it was seen on its host that nothing of
-- its work runs any more.
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
