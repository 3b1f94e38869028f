-- What these attempts have printed, each after a piece, in the order in which it was written down.
SELECT o.id, s.mission_id, o.sortie_id, s.key, o.attempt, o.stream, o.at, o.text
FROM unnest(%(sorties)s::uuid[], %(attempts)s::int[], %(after)s::bigint[]) AS asked (sortie, attempt, after)
JOIN missions_output o ON o.sortie_id = asked.sortie AND o.attempt = asked.attempt AND o.id > asked.after
JOIN missions_sortie s ON s.id = o.sortie_id
ORDER BY o.id
