-- Queued sorties under a limit whose type no agent serves: nobody will claim them, and they occupy places that others
-- need.
SELECT s.id
FROM agents_agenttype t
JOIN missions_sortie s ON s.agent_type_id = t.name
JOIN missions_mission m ON m.id = s.mission_id
WHERE t.name <> ALL (%(served)s) AND s.state = 'queued' AND s.gated
  AND (s.concurrency_key IS NOT NULL OR m.at_once > 0 OR t.at_once > 0)
ORDER BY s.id
LIMIT %(limit)s
