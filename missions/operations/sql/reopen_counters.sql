-- Recount the needs of a mission's pending sorties, and make those ready that wait for nothing.
WITH counted AS (
    SELECT d.id, count(u.id) FILTER (
        WHERE NOT @missions.sortie_has_ended(u) OR @missions.sortie_ended_badly(u) AND NOT d.always) AS needs
    FROM missions_sortie d
    LEFT JOIN missions_need n ON n.sortie_id = d.id
    LEFT JOIN missions_sortie u ON u.id = n.upstream_id
    WHERE d.mission_id = %(mission)s AND d.state = 'pending'
    GROUP BY d.id
), moved AS (
    UPDATE missions_sortie d
    SET remaining = counted.needs,
        state = CASE WHEN counted.needs = 0 THEN 'ready' ELSE 'pending' END,
        ready_at = CASE WHEN counted.needs = 0 THEN clock_timestamp() END
    FROM counted
    WHERE d.id = counted.id AND d.state = 'pending'
    RETURNING d.id, d.mission_id, d.state
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.ready', mission_id, id, '{"from": "pending"}' FROM moved WHERE state = 'ready'
)
SELECT count(*) FROM moved
