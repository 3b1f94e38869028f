-- The output of these attempts, of each after its own last piece, in the order in which it was stored.
SELECT o.id, s.mission_id, o.sortie_id, s.key, o.attempt, o.stream, o.at, o.text
FROM unnest(%(sorties)s::uuid[], %(attempts)s::int[], %(after)s::bigint[]) AS requested (sortie, attempt, after)
JOIN missions_output o ON o.sortie_id = requested.sortie AND o.attempt = requested.attempt AND o.id > requested.after
JOIN missions_sortie s ON s.id = o.sortie_id
ORDER BY o.id
