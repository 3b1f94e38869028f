-- The commits of a mission that no branch has: by ref, those that are still to be merged and those of saved work.
SELECT c.sortie_id, c.attempt::text, c.commit
FROM missions_change c JOIN missions_sortie s ON s.id = c.sortie_id
WHERE s.mission_id = %(mission)s AND c.state IN ('committed', 'landing', 'conflicted')
UNION ALL
SELECT w.sortie_id, 'saved', w.commit
FROM missions_savedwork w JOIN missions_sortie s ON s.id = w.sortie_id
WHERE s.mission_id = %(mission)s
