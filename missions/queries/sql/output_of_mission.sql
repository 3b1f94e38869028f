-- The output of a mission's sorties, or some of them, after a piece, in the order in which it was stored. Ids are
-- allocated before transactions commit, so only pieces older than every open transaction are returned: none can appear
-- in between later. The bytes of the pieces are added up: the last one returned is the first that exceeds the maximum.
WITH page AS (
    SELECT o.id, s.key, octet_length(o.text) AS bytes
    FROM missions_sortie s JOIN missions_output o ON o.sortie_id = s.id
    WHERE s.mission_id = %(mission)s AND (%(sorties)s::uuid[] IS NULL OR s.id = ANY (%(sorties)s::uuid[]))
      AND o.id > %(after)s AND age(o.xmin) > age(pg_snapshot_xmin(pg_current_snapshot())::xid)
    ORDER BY o.id
    LIMIT %(limit)s
), summed AS (
    SELECT page.*, sum(page.bytes) OVER (ORDER BY page.id)::bigint AS total FROM page
)
SELECT o.id, o.sortie_id, summed.key, o.attempt, o.stream, o.at, o.text, summed.total
FROM summed JOIN missions_output o ON o.id = summed.id
WHERE summed.total - summed.bytes <= %(max_bytes)s
ORDER BY o.id
