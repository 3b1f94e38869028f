-- Return the queued sorties of paused missions to ready.
WITH locked AS (
    SELECT s.id FROM missions_sortie s JOIN missions_mission m ON m.id = s.mission_id
    WHERE s.state = 'queued' AND m.state = 'paused' AND m.id = ANY (%(missions)s)
    ORDER BY s.id
    FOR NO KEY UPDATE OF s
), moved AS (
    UPDATE missions_sortie s SET state = 'ready', ready_at = clock_timestamp()
    FROM locked
    WHERE s.id = locked.id AND s.state = 'queued'
    RETURNING s.id, s.mission_id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.ready', mission_id, id, '{"from": "queued", "why": "paused"}' FROM moved
)
SELECT id FROM moved
