-- The facts for the autoscaler, one row per agent type: its agents, their slots, and its queue.
SELECT t.name AS type, t.autoscale AS "on", t.max_agents, t.concurrency,
       coalesce(a.live, 0) AS live, coalesce(a.starting, 0) AS starting, coalesce(a.slots, 0) AS slots,
       coalesce(a.running, 0) AS running, coalesce(q.queued, 0) AS queued, coalesce(q.oldest_s, 0) AS oldest_s
FROM agents_agenttype t
LEFT JOIN (
    SELECT type_id, count(*) AS live, count(*) FILTER (WHERE state = 'spawning') AS starting,
           sum(concurrency) AS slots, sum(running) AS running
    FROM agents_agent
    WHERE state IN ('spawning', 'idle', 'busy') AND "order" = ''
    GROUP BY type_id
) a ON a.type_id = t.name
LEFT JOIN (
    SELECT s.agent_type_id, count(*) AS queued, extract(epoch FROM clock_timestamp() - min(s.ready_at))::float8 AS oldest_s
    FROM missions_sortie s JOIN missions_mission m ON m.id = s.mission_id
    WHERE s.state = 'queued' AND m.state = 'running'
    GROUP BY s.agent_type_id
) q ON q.agent_type_id = t.name
WHERE t.enabled AND NOT t.external
ORDER BY t.name
