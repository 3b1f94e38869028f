-- Close missions whose sorties have all ended. The control loop repeats it, because two agents that settle a mission's
-- last two sorties at the same time each see the other's as unfinished.
WITH candidate AS (
    SELECT m.id, m.state AS was
    FROM missions_mission m
    WHERE m.state IN ('running', 'cancelling')
      AND (%(missions)s::uuid[] IS NULL OR m.id = ANY (%(missions)s))
      AND NOT EXISTS (
          SELECT FROM missions_sortie s
          WHERE s.mission_id = m.id AND NOT @missions.sortie_has_ended(s))
    ORDER BY m.id
    FOR UPDATE OF m SKIP LOCKED
), counted AS (
    SELECT candidate.id, candidate.was, count(s.id) FILTER (
        WHERE @missions.sortie_ended_badly(s)) AS bad
    FROM candidate LEFT JOIN missions_sortie s ON s.mission_id = candidate.id
    GROUP BY candidate.id, candidate.was
), closed AS (
    UPDATE missions_mission m
    SET state = CASE WHEN counted.was = 'cancelling' THEN 'cancelled'
                     WHEN counted.bad > 0 THEN 'failed'
                     ELSE 'succeeded' END,
        finished_at = clock_timestamp()
    FROM counted
    WHERE m.id = counted.id AND m.state = counted.was
      AND NOT EXISTS (
          SELECT FROM missions_sortie s
          WHERE s.mission_id = m.id AND NOT @missions.sortie_has_ended(s))
    RETURNING m.id, m.state, counted.was
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'mission.' || state, id, id, jsonb_build_object('from', was) FROM closed
)
SELECT id, state FROM closed
