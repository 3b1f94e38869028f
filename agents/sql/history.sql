-- An agent's samples in steps of `step_s` seconds, the oldest first.
SELECT date_bin(make_interval(secs => %(step_s)s), at, 'epoch'::timestamptz) AS begins,
       sum(cpu * step_s) / sum(step_s), max(memory_bytes), max(processes)
FROM agents_sample
WHERE agent_id = %(agent)s
GROUP BY begins
ORDER BY begins
