-- What the plan reserves for these sorties, in force or not: the branch, the sortie, its mission and key, the pattern
-- and whether it is shared.
SELECT r.repository, r.branch, s.id, s.mission_id, s.key, r.pattern, r.shared
FROM missions_reservation r JOIN missions_sortie s ON s.id = r.sortie_id
WHERE r.sortie_id = ANY (%(sorties)s) AND r.attempt IS NULL AND r.released_at IS NULL
