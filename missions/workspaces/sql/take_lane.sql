-- The (locked) lane of a branch, if this attempt may take it. No row: another sortie has it, or this attempt is no
-- longer the running one. A lane that was assigned to a waiting sortie is free again if that sortie does not start
-- within a minute.
SELECT lane.id
FROM missions_lane lane
LEFT JOIN missions_sortie holder ON holder.id = lane.sortie_id
WHERE lane.repository = %(repository)s AND lane.branch = %(branch)s
  AND EXISTS (
        SELECT FROM missions_sortie s
        WHERE s.id = %(sortie)s AND s.state = 'running' AND s.attempt = %(attempt)s AND s.lease_until > clock_timestamp())
  AND (lane.sortie_id = %(sortie)s
       OR holder.id IS NULL
       OR NOT (CASE WHEN lane.attempt IS NOT NULL THEN holder.state = 'running' AND holder.attempt = lane.attempt
                    ELSE holder.state = 'running' OR holder.state IN ('ready', 'queued')
                         AND holder.ready_at > clock_timestamp() - interval '1 minute' END))
