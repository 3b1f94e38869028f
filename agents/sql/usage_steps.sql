-- The CPU cores that each of the agents used in the last `span_s` seconds, in steps counted back from now.
SELECT agent_id, floor(extract(epoch FROM statement_timestamp() - at) / %(step_s)s)::int AS steps_ago,
       sum(cpu * step_s) / sum(step_s)
FROM agents_sample
WHERE agent_id = ANY (%(agents)s) AND at > statement_timestamp() - make_interval(secs => %(span_s)s)
  AND extract(epoch FROM statement_timestamp() - at) BETWEEN 0 AND %(span_s)s - 1
GROUP BY agent_id, steps_ago
