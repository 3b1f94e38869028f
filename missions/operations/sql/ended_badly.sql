-- The sorties that ended badly and that a pending sortie of the mission needs: it can never run.
SELECT DISTINCT u.id, u.key
FROM missions_sortie d
JOIN missions_need n ON n.sortie_id = d.id
JOIN missions_sortie u ON u.id = n.upstream_id
WHERE d.mission_id = %(mission)s AND d.state = 'pending' AND NOT d.always
  AND (u.state IN ('skipped', 'cancelled') OR (u.state = 'failed' AND NOT u.allow_failure))
ORDER BY u.key
