-- The sorties of a mission that may have changed since a snapshot, and whether anything else did: an event is new if it
-- is visible now and was not visible then. Running sorties are included, because what is kept of them changes without
-- an event.
SELECT subject, kind
FROM fleet_event
WHERE scope = %(mission)s AND xid >= pg_snapshot_xmin(%(since)s::pg_snapshot)::text::bigint
  AND NOT pg_visible_in_snapshot(xid::text::xid8, %(since)s::pg_snapshot)
UNION
SELECT id, 'sortie.running' FROM missions_sortie WHERE mission_id = %(mission)s AND state = 'running'
