-- Store the values that attempts saved to resume from, each only if its attempt is the running one.
WITH locked AS (
    SELECT a.id, saved.resume
    FROM unnest(%(ids)s::uuid[], %(attempts)s::int[], %(resumes)s::text[]) AS saved (id, attempt, resume)
    JOIN missions_sortie s ON s.id = saved.id AND s.state = 'running' AND s.attempt = saved.attempt
    JOIN missions_attempt a ON a.sortie_id = saved.id AND a.number = saved.attempt AND a.state = 'running'
    ORDER BY a.id
    FOR UPDATE OF a
)
UPDATE missions_attempt a SET resume = locked.resume::jsonb FROM locked WHERE a.id = locked.id
