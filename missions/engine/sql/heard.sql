-- Note of these attempts, as far as they are the running ones, that they are heard of.
WITH held AS (
    SELECT a.id
    FROM unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS said (sortie, attempt)
    JOIN missions_sortie s ON s.id = said.sortie AND s.state = 'running' AND s.attempt = said.attempt
    JOIN missions_attempt a ON a.sortie_id = said.sortie AND a.number = said.attempt
    ORDER BY a.id
    FOR UPDATE OF a
)
UPDATE missions_attempt a SET heard_at = clock_timestamp() FROM held WHERE a.id = held.id
