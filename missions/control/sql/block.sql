-- Record for ready sorties whose reservation they wait for.
UPDATE missions_sortie s
SET blocked_by_id = block.by, waits_for = left(block.reason, 500)
FROM unnest(%(sorties)s::uuid[], %(by)s::uuid[], %(reasons)s::text[]) AS block (sortie, by, reason)
WHERE s.id = block.sortie AND s.state = 'ready'
  AND (s.blocked_by_id IS DISTINCT FROM block.by OR s.waits_for <> left(block.reason, 500))
