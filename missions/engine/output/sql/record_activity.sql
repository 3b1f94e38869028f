-- Record activity of attempts, each only if it is the running one.
WITH locked AS (
    SELECT a.id
    FROM unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS active (sortie, attempt)
    JOIN missions_sortie s ON s.id = active.sortie AND s.state = 'running' AND s.attempt = active.attempt
    JOIN missions_attempt a ON a.sortie_id = active.sortie AND a.number = active.attempt
    ORDER BY a.id
    FOR UPDATE OF a
)
UPDATE missions_attempt a SET last_activity_at = clock_timestamp() FROM locked WHERE a.id = locked.id
