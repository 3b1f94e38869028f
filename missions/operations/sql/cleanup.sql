-- Remove these missions, as far as they have ended, with everything that belongs to them.
WITH doomed AS (
    SELECT id FROM missions_mission
    WHERE id = ANY (%(missions)s) AND state IN ('succeeded', 'failed', 'cancelled')
    FOR UPDATE SKIP LOCKED
), doomed_sortie AS (
    SELECT s.id FROM missions_sortie s JOIN doomed ON doomed.id = s.mission_id
), needs AS (
    DELETE FROM missions_need n USING doomed_sortie WHERE n.sortie_id = doomed_sortie.id
), output AS (
    DELETE FROM missions_output o USING doomed_sortie WHERE o.sortie_id = doomed_sortie.id
), artifacts AS (
    DELETE FROM missions_artifact a USING doomed_sortie WHERE a.sortie_id = doomed_sortie.id
), attempts AS (
    DELETE FROM missions_attempt a USING doomed_sortie WHERE a.sortie_id = doomed_sortie.id
), briefs AS (
    DELETE FROM missions_brief b USING doomed_sortie WHERE b.sortie_id = doomed_sortie.id
), changes AS (
    DELETE FROM missions_change c USING doomed_sortie WHERE c.sortie_id = doomed_sortie.id
), conflicts AS (
    DELETE FROM missions_conflict c USING doomed_sortie WHERE c.sortie_id = doomed_sortie.id
), saved_work AS (
    DELETE FROM missions_savedwork w USING doomed_sortie WHERE w.sortie_id = doomed_sortie.id
), patches AS (
    DELETE FROM missions_patch p USING doomed_sortie WHERE p.sortie_id = doomed_sortie.id
), reservations AS (
    DELETE FROM missions_reservation r USING doomed_sortie WHERE r.sortie_id = doomed_sortie.id
), verified_trees AS (
    DELETE FROM missions_verifiedtree v USING doomed WHERE v.mission_id = doomed.id
), lanes AS (
    DELETE FROM missions_lane l USING doomed JOIN missions_workspace w ON w.mission_id = doomed.id
    WHERE l.repository = w.repository AND l.branch = w.branch
      AND NOT EXISTS (
          SELECT FROM missions_workspace other
          WHERE other.repository = w.repository AND other.branch = w.branch AND other.mission_id <> w.mission_id
            AND other.mission_id NOT IN (SELECT id FROM doomed))
), workspaces AS (
    DELETE FROM missions_workspace w USING doomed WHERE w.mission_id = doomed.id
), sorties AS (
    DELETE FROM missions_sortie s USING doomed_sortie WHERE s.id = doomed_sortie.id
), events AS (
    DELETE FROM fleet_event e USING doomed WHERE e.scope = doomed.id
)
DELETE FROM missions_mission m USING doomed WHERE m.id = doomed.id
RETURNING m.id
