-- The concurrency keys of a mission's unfinished sorties, with the lowest limit that their specs have.
SELECT s.concurrency_key, min((b.spec -> 'concurrency' ->> 'limit')::int)
FROM missions_sortie s
JOIN missions_brief b ON b.sortie_id = s.id
WHERE s.mission_id = %(mission)s AND s.concurrency_key IS NOT NULL
  AND NOT @missions.sortie_has_ended(s)
GROUP BY 1
ORDER BY 1
