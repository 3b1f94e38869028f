-- The state and result of each need of a sortie, in the plan's order, and the total bytes of the results. If the total
-- exceeds `max_bytes`, no result is sent: an agent's memory is bounded, and there may be thousands of large results.
WITH needed AS MATERIALIZED (
    SELECT u.key, u.state, u.turn, u.id, a.result::text AS result
    FROM missions_need n
    JOIN missions_sortie u ON u.id = n.upstream_id
    LEFT JOIN missions_attempt a ON a.sortie_id = u.id AND a.number = coalesce(u.accepted, u.attempt) AND a.state = 'succeeded'
    WHERE n.sortie_id = %(sortie)s
), total AS (
    SELECT coalesce(sum(octet_length(result)), 0)::bigint AS bytes FROM needed
)
SELECT key, state, CASE WHEN bytes <= %(max_bytes)s THEN result END, bytes
FROM needed, total
ORDER BY turn, id
