-- The samples of an agent in steps of `step_s` seconds, oldest first.
SELECT date_bin(make_interval(secs => %(step_s)s), at, 'epoch'::timestamptz) AS begins,
       sum(cpu * step_s) / sum(step_s), max(memory_bytes), max(processes)
FROM agents_sample
WHERE agent_id = %(agent)s
GROUP BY begins
ORDER BY begins
