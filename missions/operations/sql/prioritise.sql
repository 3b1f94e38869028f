-- Change the priority of a mission that has not ended, and by as much that of its sorties that have not.
WITH held AS (
    SELECT id, priority FROM missions_mission
    WHERE id = %(mission)s AND state NOT IN ('succeeded', 'failed', 'cancelled')
    FOR UPDATE
), changed AS (
    UPDATE missions_mission m SET priority = %(priority)s FROM held WHERE m.id = held.id
), sorties AS (
    SELECT s.id, held.priority AS before
    FROM missions_sortie s JOIN held ON held.id = s.mission_id
    WHERE s.state IN ('pending', 'waiting', 'ready', 'queued', 'running') AND held.priority <> %(priority)s
    ORDER BY s.id
    FOR UPDATE OF s
), moved AS (
    UPDATE missions_sortie s
    SET priority = least(greatest(s.priority - sorties.before + %(priority)s, -1000), 1000)
    FROM sorties WHERE s.id = sorties.id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'mission.changed', id, id, jsonb_build_object('priority', %(priority)s::int, 'was', priority) FROM held
)
SELECT id, priority FROM held
