-- Change the priority of a mission that has not ended, and shift that of its unfinished sorties by as much.
WITH locked AS (
    SELECT m.id, m.priority FROM missions_mission m
    WHERE m.id = %(mission)s AND NOT @missions.mission_has_ended(m)
    FOR UPDATE
), changed AS (
    UPDATE missions_mission m SET priority = %(priority)s FROM locked WHERE m.id = locked.id
), sorties AS (
    SELECT s.id, locked.priority AS before
    FROM missions_sortie s JOIN locked ON locked.id = s.mission_id
    WHERE s.state IN ('pending', 'waiting', 'ready', 'queued', 'running') AND locked.priority <> %(priority)s
    ORDER BY s.id
    FOR NO KEY UPDATE OF s
), shifted AS (
    UPDATE missions_sortie s
    SET priority = least(greatest(s.priority - sorties.before + %(priority)s, -1000), 1000)
    FROM sorties WHERE s.id = sorties.id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'mission.changed', id, id, jsonb_build_object('priority', %(priority)s::int, 'was', priority) FROM locked
)
SELECT id, priority FROM locked
