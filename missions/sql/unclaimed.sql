-- How many sorties of each type are queued, by a walk that stops counting where hints stop mattering.
SELECT t.name, count(*)
FROM agents_agenttype t
CROSS JOIN LATERAL (
    SELECT FROM missions_sortie s WHERE s.agent_type_id = t.name AND s.state = 'queued' LIMIT 8
) AS queued
GROUP BY t.name
