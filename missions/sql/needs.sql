-- What the sorties that one needs came to, in the plan's order.
SELECT u.key, u.state, a.result
FROM missions_need n
JOIN missions_sortie u ON u.id = n.upstream_id
LEFT JOIN missions_attempt a ON a.sortie_id = u.id AND a.number = u.attempt AND a.state = 'succeeded'
WHERE n.sortie_id = %(sortie)s
ORDER BY u.turn, u.id
