-- Running missions without a running sortie, without one that waits for a time in the future, and without an event for
-- `after` seconds; with the number of their unfinished sorties by state.
SELECT m.id, m.name, extract(epoch FROM clock_timestamp() - last.at)::float8, unfinished.states
FROM missions_mission m
CROSS JOIN LATERAL (
    SELECT e.at FROM fleet_event e WHERE e.scope = m.id ORDER BY e.xid DESC, e.id DESC LIMIT 1
) AS last
CROSS JOIN LATERAL (
    SELECT string_agg(number || ' ' || state, ', ' ORDER BY state) AS states, bool_or(moving) AS moving
    FROM (
        SELECT s.state, count(*) AS number, bool_or(s.state = 'running' OR s.wake_at > clock_timestamp()) AS moving
        FROM missions_sortie s
        WHERE s.mission_id = m.id AND NOT @missions.sortie_has_ended(s)
          AND last.at < clock_timestamp() - make_interval(secs => %(after)s)
        GROUP BY s.state
    ) AS by_state
) AS unfinished
WHERE m.state = 'running' AND last.at < clock_timestamp() - make_interval(secs => %(after)s)
  AND unfinished.moving IS NOT TRUE
ORDER BY m.id
LIMIT 100
