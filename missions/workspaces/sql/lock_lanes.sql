-- Lock the lanes of the branches of these sorties; NULL: of all sorties that wait for a merge. A separate statement
-- then decides about each lane, because this one does not see the effects of a transaction that it waited for.
SELECT l.id
FROM missions_lane l
WHERE (l.repository, l.branch) IN (
    SELECT w.repository, w.branch
    FROM missions_sortie s JOIN missions_workspace w ON w.mission_id = s.mission_id
    WHERE CASE WHEN %(sorties)s::uuid[] IS NULL THEN s.state = 'waiting' AND s.waits_on = 'merge'
               ELSE s.id = ANY (%(sorties)s) END)
ORDER BY l.id
FOR UPDATE OF l
