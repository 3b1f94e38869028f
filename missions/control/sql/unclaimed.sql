-- How many sorties of each type are queued, and which, at most `limit` of each.
SELECT t.name, count(*), array_agg(queued.id)
FROM agents_agenttype t
CROSS JOIN LATERAL (
    SELECT s.id FROM missions_sortie s WHERE s.agent_type_id = t.name AND s.state = 'queued' LIMIT %(limit)s
) AS queued
GROUP BY t.name
