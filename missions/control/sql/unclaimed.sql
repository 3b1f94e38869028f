-- How many sorties of each type are queued, and which, up to the number of hints that are sent at once.
SELECT t.name, count(*), array_agg(queued.id)
FROM agents_agenttype t
CROSS JOIN LATERAL (
    SELECT s.id FROM missions_sortie s WHERE s.agent_type_id = t.name AND s.state = 'queued' LIMIT 8
) AS queued
GROUP BY t.name
