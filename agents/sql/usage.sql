-- The last sample of each of the agents, and its peak memory. Agents without a sample are left out.
SELECT a.id, last.at, last.cpu, last.memory_bytes, last.processes,
       (SELECT max(s.memory_bytes) FROM agents_sample s WHERE s.agent_id = a.id)
FROM unnest(%(agents)s::uuid[]) a (id)
CROSS JOIN LATERAL (
    SELECT s.at, s.cpu, s.memory_bytes, s.processes FROM agents_sample s WHERE s.agent_id = a.id ORDER BY s.at DESC LIMIT 1
) last
