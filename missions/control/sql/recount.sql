-- Free pending sorties of running missions whose needs have all ended: a safety net for the counters.
WITH stuck AS (
    SELECT d.id
    FROM missions_mission m JOIN missions_sortie d ON d.mission_id = m.id
    WHERE m.state = 'running' AND d.state = 'pending'
      AND NOT EXISTS (
          SELECT FROM missions_need n JOIN missions_sortie u ON u.id = n.upstream_id
          WHERE n.sortie_id = d.id
            AND (NOT @missions.sortie_has_ended(u) OR @missions.sortie_ended_badly(u) AND NOT d.always))
    ORDER BY d.id
    LIMIT %(limit)s
    FOR NO KEY UPDATE OF d SKIP LOCKED
), freed AS (
    UPDATE missions_sortie d
    SET remaining = 0,
        state = CASE WHEN d.gated THEN 'ready' ELSE 'queued' END,
        ready_at = clock_timestamp()
    FROM stuck
    WHERE d.id = stuck.id AND d.state = 'pending'
    RETURNING d.id, d.mission_id, d.agent_type_id, d.state
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.' || state, mission_id, id, '{"from": "pending"}' FROM freed
)
SELECT false AS settled, id, mission_id, agent_type_id, state, false AS bad FROM freed
