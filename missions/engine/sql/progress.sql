-- Note how far attempts have come, each only if it is the running one.
UPDATE missions_attempt a
SET progress = coalesce(said.fraction, a.progress), note = said.note
FROM unnest(%(ids)s::uuid[], %(attempts)s::int[], %(fractions)s::float8[], %(notes)s::text[])
    AS said (id, attempt, fraction, note)
JOIN missions_sortie s ON s.id = said.id
WHERE a.sortie_id = said.id AND a.number = said.attempt AND s.state = 'running' AND s.attempt = said.attempt
