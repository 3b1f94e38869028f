-- After a backup was restored: its live agents have no process. Restoring requires that the fleet is stopped on all hosts.
-- External agents stay, because they may still be running and go on when the site is up again.
WITH ended AS (
    UPDATE agents_agent a
    SET state = 'terminated', ended_at = clock_timestamp(), reason = 'The database was restored from a backup.'
    WHERE a.state IN ('spawning', 'idle', 'busy', 'draining') AND (a.pid IS NOT NULL OR a.node_id IS NOT NULL)
    RETURNING a.id, a.type_id, a.reason
)
INSERT INTO fleet_event (kind, subject, data)
SELECT 'agent.terminated', id, jsonb_build_object('type', type_id, 'why', reason) FROM ended;
