-- Count down the dependents of sorties that ended in this transaction, and free those that wait for nothing more. A
-- sortie that ended badly counts only for dependents that run `if: always`; `skip.sql` skips the others.
WITH ended AS (
    SELECT n.sortie_id AS id, count(*) AS needs
    FROM missions_sortie u
    JOIN missions_need n ON n.upstream_id = u.id
    JOIN missions_sortie d ON d.id = n.sortie_id
    WHERE u.id = ANY (%(ended)s)
      AND (d.always OR u.state = 'succeeded' OR (u.state = 'failed' AND u.allow_failure))
    GROUP BY n.sortie_id
), dependents AS (
    SELECT d.id FROM missions_sortie d
    WHERE d.id IN (SELECT id FROM ended) AND d.state = 'pending'
    ORDER BY d.id
    FOR UPDATE
), freed AS (
    UPDATE missions_sortie d
    SET remaining = d.remaining - ended.needs,
        state = CASE WHEN d.remaining > ended.needs THEN 'pending'
                     WHEN d.gated OR m.state <> 'running' THEN 'ready'
                     ELSE 'queued' END,
        ready_at = CASE WHEN d.remaining > ended.needs THEN NULL ELSE clock_timestamp() END
    FROM ended, dependents, missions_mission m
    WHERE d.id = ended.id AND dependents.id = ended.id AND m.id = d.mission_id AND d.state = 'pending'
    RETURNING d.id, d.mission_id, d.agent_type_id, d.state
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.' || state, mission_id, id, '{"from": "pending"}' FROM freed WHERE state <> 'pending'
)
SELECT false AS settled, id, mission_id, agent_type_id, state, false AS bad FROM freed WHERE state <> 'pending'
