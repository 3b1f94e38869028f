-- End agents without a recent heartbeat: as lost, or as failed if they never reported. External agents only if the
-- site, which receives their heartbeats, has been up for as long (`external`).
WITH silent AS (
    SELECT a.id, a.state FROM agents_agent a
    WHERE a.state IN ('spawning', 'idle', 'busy', 'draining')
      AND a.heartbeat_at < clock_timestamp()
          - make_interval(secs => CASE a.state WHEN 'spawning' THEN %(spawn)s ELSE %(after)s END)
      AND (%(external)s OR a.pid IS NOT NULL OR a.node_id IS NOT NULL)
    ORDER BY a.id
    FOR UPDATE SKIP LOCKED
), ended AS (
    UPDATE agents_agent a
    SET state = CASE silent.state WHEN 'spawning' THEN 'failed' ELSE 'lost' END,
        reason = CASE silent.state WHEN 'spawning' THEN 'It never reported; see its log.'
                                   ELSE 'Its heartbeat stopped.' END,
        ended_at = clock_timestamp()
    FROM silent
    WHERE a.id = silent.id
    RETURNING a.id, a.type_id, a.state, a.reason
), events AS (
    INSERT INTO fleet_event (kind, subject, data)
    SELECT 'agent.' || state, id, jsonb_build_object('type', type_id, 'why', reason) FROM ended
)
SELECT id FROM ended
