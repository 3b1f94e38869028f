-- The output of a mission's sorties, or some of them, after a piece, in the order in which it was stored. Ids are
-- allocated before transactions commit, so only pieces older than every open transaction are returned: none can appear
-- in between later.
WITH page AS (
    SELECT o.id, s.key
    FROM missions_sortie s JOIN missions_output o ON o.sortie_id = s.id
    WHERE s.mission_id = %(mission)s AND (%(sorties)s::uuid[] IS NULL OR s.id = ANY (%(sorties)s::uuid[]))
      AND o.id > %(after)s AND age(o.xmin) > age(pg_snapshot_xmin(pg_current_snapshot())::xid)
    ORDER BY o.id
    LIMIT %(limit)s
)
SELECT o.id, o.sortie_id, page.key, o.attempt, o.stream, o.at, o.text
FROM page JOIN missions_output o ON o.id = page.id
ORDER BY o.id
