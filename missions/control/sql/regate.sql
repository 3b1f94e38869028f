-- Pending sorties whose agent type was given a limit, or freed of one, after they were made: whether they must be admitted
-- once their needs have ended. Rows that somebody settles just now are passed over, for the next time.
WITH wrong AS (
    SELECT s.id, m.at_once > 0 OR t.at_once > 0 OR s.concurrency_key IS NOT NULL OR s.wake_at IS NOT NULL AS gated
    FROM missions_sortie s
    JOIN missions_mission m ON m.id = s.mission_id
    JOIN agents_agenttype t ON t.name = s.agent_type_id
    WHERE s.state = 'pending'
      AND s.gated <> (m.at_once > 0 OR t.at_once > 0 OR s.concurrency_key IS NOT NULL OR s.wake_at IS NOT NULL)
    ORDER BY s.id
    LIMIT %(limit)s
    FOR UPDATE OF s SKIP LOCKED
)
UPDATE missions_sortie s SET gated = wrong.gated
FROM wrong
WHERE s.id = wrong.id
