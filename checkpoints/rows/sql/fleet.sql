-- The agent types, with the number of agents that each should have, and the limits of concurrency keys.
SELECT json_build_object(
    'agent_types', (SELECT coalesce(json_agg(row_to_json(t) ORDER BY t.name), '[]') FROM agents_agenttype t),
    'concurrency_keys', (
        SELECT coalesce(json_object_agg(k.key, k."limit" ORDER BY k.key), '{}') FROM missions_concurrencykey k)
)::text
