-- The events of a mission since a snapshot: those that are visible now and were not visible in the snapshot. Running
-- sorties are included, because their kept lines change without an event.
SELECT subject, kind
FROM fleet_event
WHERE scope = %(mission)s AND xid >= pg_snapshot_xmin(%(since)s::pg_snapshot)::text::bigint
  AND NOT pg_visible_in_snapshot(xid::text::xid8, %(since)s::pg_snapshot)
UNION
SELECT id, 'sortie.running' FROM missions_sortie WHERE mission_id = %(mission)s AND state = 'running'
