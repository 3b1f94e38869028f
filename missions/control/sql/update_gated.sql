-- Correct `gated` (whether a sortie must be admitted) for pending sorties after the limit of their agent type was set
-- or removed. Rows that are being settled are skipped until the next time.
WITH wrong AS (
    SELECT s.id, must.be_admitted
    FROM missions_sortie s
    JOIN missions_mission m ON m.id = s.mission_id
    JOIN agents_agenttype t ON t.name = s.agent_type_id
    CROSS JOIN LATERAL (
        SELECT m.max_running > 0 OR t.max_running > 0 OR s.concurrency_key IS NOT NULL OR s.wake_at IS NOT NULL
               OR EXISTS (SELECT FROM missions_reservation r
                          WHERE r.sortie_id = s.id AND r.attempt IS NULL AND r.released_at IS NULL) AS be_admitted
    ) AS must
    WHERE s.state = 'pending' AND s.gated <> must.be_admitted
    ORDER BY s.id
    LIMIT %(limit)s
    FOR NO KEY UPDATE OF s SKIP LOCKED
)
UPDATE missions_sortie s SET gated = wrong.be_admitted
FROM wrong
WHERE s.id = wrong.id
