-- Queued sorties under a limit, or with reservations, whose type no agent serves: no agent will claim them, and they
-- occupy places and files that others need.
SELECT s.id
FROM agents_agenttype t
JOIN missions_sortie s ON s.agent_type_id = t.name
JOIN missions_mission m ON m.id = s.mission_id
WHERE t.name <> ALL (%(served)s) AND s.state = 'queued' AND s.gated
  AND (s.concurrency_key IS NOT NULL OR m.max_running > 0 OR t.max_running > 0
       OR EXISTS (SELECT FROM missions_reservation r
                  WHERE r.sortie_id = s.id AND r.attempt IS NULL AND r.released_at IS NULL))
ORDER BY s.id
LIMIT %(limit)s
