-- Recount the unmet needs of a mission's sorties.
WITH counted AS (
    SELECT d.id, count(u.id) FILTER (
        WHERE NOT @missions.sortie_has_ended(u) OR @missions.sortie_ended_badly(u) AND NOT d.always) AS needs
    FROM missions_sortie d
    LEFT JOIN missions_need n ON n.sortie_id = d.id
    LEFT JOIN missions_sortie u ON u.id = n.upstream_id
    WHERE d.mission_id = %(mission)s
    GROUP BY d.id
)
UPDATE missions_sortie d
SET remaining = CASE WHEN d.state = 'pending' THEN counted.needs ELSE 0 END
FROM counted
WHERE d.id = counted.id AND d.remaining <> CASE WHEN d.state = 'pending' THEN counted.needs ELSE 0 END
