-- Replace the oldest ten minutes (`step_s` seconds) of fine samples before `before` by one mean per agent.
WITH oldest AS (
    SELECT date_bin(make_interval(secs => %(step_s)s), min(at), 'epoch'::timestamptz) AS begins
    FROM agents_sample WHERE step_s < 600 AND at < %(before)s
), fine AS (
    DELETE FROM agents_sample s USING oldest
    WHERE s.step_s < 600 AND s.at >= oldest.begins AND s.at < oldest.begins + make_interval(secs => %(step_s)s)
    RETURNING s.agent_id, oldest.begins, s.step_s, s.cpu, s.memory_bytes, s.processes
), coarse AS (
    INSERT INTO agents_sample (agent_id, at, step_s, cpu, memory_bytes, processes)
    SELECT agent_id, begins, %(step_s)s, sum(cpu * step_s) / sum(step_s),
           round(sum(memory_bytes::numeric * step_s) / sum(step_s)), round(sum(processes::numeric * step_s) / sum(step_s))
    FROM fine GROUP BY agent_id, begins
)
SELECT count(*) FROM fine
