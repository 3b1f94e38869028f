-- The concurrency keys that something ready waits for.
SELECT DISTINCT s.concurrency_key
FROM missions_sortie s JOIN missions_mission m ON m.id = s.mission_id
WHERE s.state = 'ready' AND s.concurrency_key IS NOT NULL AND m.state = 'running'
ORDER BY 1
