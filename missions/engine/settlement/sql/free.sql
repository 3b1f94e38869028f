-- Count down the dependents of sorties that ended in this transaction, and free those that wait for nothing more. A
-- sortie that ended badly counts only for dependents that run `if: always`; `skip.sql` skips the others.
--
-- Sorties are looked up by their key, one after the other, as in `settle_and_claim.sql`.
WITH ended AS (
    SELECT n.sortie_id AS id, count(*) AS needs
    FROM missions_sortie u
    CROSS JOIN LATERAL (SELECT sortie_id FROM missions_need WHERE upstream_id = u.id OFFSET 0) n
    WHERE u.id = ANY (%(ended)s)
      AND (NOT @missions.sortie_ended_badly(u)
           OR (SELECT d.always FROM missions_sortie d WHERE d.id = n.sortie_id))
    GROUP BY n.sortie_id
), dependents AS (
    SELECT d.id, d.remaining - ended.needs AS remaining,
           CASE WHEN d.remaining > ended.needs THEN 'pending'
                WHEN d.gated OR (SELECT m.state FROM missions_mission m WHERE m.id = d.mission_id) <> 'running'
                THEN 'ready'
                ELSE 'queued' END AS state
    FROM (SELECT * FROM ended ORDER BY id) ended
    CROSS JOIN LATERAL (
        SELECT id, mission_id, remaining, gated
        FROM missions_sortie
        WHERE id = ended.id AND state = 'pending'
        FOR NO KEY UPDATE
    ) d
), freed AS (
    UPDATE missions_sortie s
    SET remaining = d.remaining, state = d.state,
        ready_at = CASE WHEN d.state <> 'pending' THEN clock_timestamp() END
    FROM dependents d
    WHERE s.id = d.id
    RETURNING s.id, s.mission_id, s.agent_type_id, s.state
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.' || state, mission_id, id, '{"from": "pending"}' FROM freed WHERE state <> 'pending'
)
SELECT false AS settled, id, mission_id, agent_type_id, state, false AS bad FROM freed WHERE state <> 'pending'
