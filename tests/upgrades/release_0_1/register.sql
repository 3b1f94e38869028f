-- Register an agent's process: spawning becomes idle. An agent that no node started gets a new row.
WITH reported AS (
    INSERT INTO agents_agent (id, type_id, node_id, ordinal, concurrency, pid, start_time, state, reason, "order",
                              crashes, running, settled, spawned_at, heartbeat_at)
    VALUES (%(agent)s, %(type)s, (SELECT id FROM agents_node WHERE name = %(node)s), 0, %(concurrency)s, %(pid)s,
            %(start_time)s, 'idle', '', '', 0, 0, 0, clock_timestamp(), clock_timestamp())
    ON CONFLICT (id) DO UPDATE
        SET pid = excluded.pid, start_time = excluded.start_time, concurrency = excluded.concurrency,
            state = 'idle', heartbeat_at = clock_timestamp()
        WHERE agents_agent.state = 'spawning'
    RETURNING id, type_id
), events AS (
    INSERT INTO fleet_event (kind, subject, data)
    SELECT 'agent.idle', id, jsonb_build_object('type', type_id, 'pid', %(pid)s::int) FROM reported
)
SELECT id FROM reported
