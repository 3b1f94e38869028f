-- Queue these ready sorties. The caller has checked that there is room.
WITH locked AS (
    SELECT s.id FROM missions_sortie s
    WHERE s.id = ANY (%(ids)s) AND s.state = 'ready'
    ORDER BY s.id
    FOR NO KEY UPDATE OF s
), admitted AS (
    UPDATE missions_sortie s
    SET state = 'queued', wake_at = NULL, waits_for = '', blocked_by_id = NULL, ready_at = clock_timestamp()
    FROM locked
    WHERE s.id = locked.id AND s.state = 'ready'
    RETURNING s.id, s.mission_id, s.agent_type_id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.queued', mission_id, id, '{"from": "ready"}' FROM admitted
)
SELECT agent_type_id FROM admitted
