-- Record the progress of attempts, each only if it is the running one.
UPDATE missions_attempt a
SET progress = coalesce(report.fraction, a.progress), note = report.note
FROM unnest(%(ids)s::uuid[], %(attempts)s::int[], %(fractions)s::float8[], %(notes)s::text[])
    AS report (id, attempt, fraction, note)
JOIN missions_sortie s ON s.id = report.id
WHERE a.sortie_id = report.id AND a.number = report.attempt AND s.state = 'running' AND s.attempt = report.attempt
