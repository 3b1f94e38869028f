-- End live agents: %(state)s is terminated, lost or failed. Those that have ended already stay as they are.
WITH ended AS (
    UPDATE agents_agent a
    SET state = %(state)s, reason = %(reason)s, ended_at = clock_timestamp()
    WHERE a.id = ANY (%(agents)s) AND a.state IN ('spawning', 'idle', 'busy', 'draining')
    RETURNING a.id, a.type_id
), events AS (
    INSERT INTO fleet_event (kind, subject, data)
    SELECT 'agent.' || %(state)s, id, jsonb_build_object('type', type_id, 'why', %(reason)s::text) FROM ended
)
SELECT id FROM ended
