-- Correct `gated` (whether a sortie must be admitted) for pending sorties after the limit of their agent type was set
-- or removed. Rows that are being settled are skipped until the next time.
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
