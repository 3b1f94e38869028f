-- Remove the missions among these that have ended, with everything that belongs to them.
WITH removed AS (
    SELECT m.id FROM missions_mission m
    WHERE m.id = ANY (%(missions)s) AND @missions.mission_has_ended(m)
    FOR UPDATE SKIP LOCKED
), removed_sortie AS (
    SELECT s.id FROM missions_sortie s JOIN removed ON removed.id = s.mission_id
), needs AS (
    DELETE FROM missions_need n USING removed_sortie WHERE n.sortie_id = removed_sortie.id
), output AS (
    DELETE FROM missions_output o USING removed_sortie WHERE o.sortie_id = removed_sortie.id
), artifacts AS (
    DELETE FROM missions_artifact a USING removed_sortie WHERE a.sortie_id = removed_sortie.id
), attempts AS (
    DELETE FROM missions_attempt a USING removed_sortie WHERE a.sortie_id = removed_sortie.id
), briefs AS (
    DELETE FROM missions_brief b USING removed_sortie WHERE b.sortie_id = removed_sortie.id
), changes AS (
    DELETE FROM missions_change c USING removed_sortie WHERE c.sortie_id = removed_sortie.id
), conflicts AS (
    DELETE FROM missions_conflict c USING removed_sortie WHERE c.sortie_id = removed_sortie.id
), saved_work AS (
    DELETE FROM missions_savedwork w USING removed_sortie WHERE w.sortie_id = removed_sortie.id
), patches AS (
    DELETE FROM missions_patch p USING removed_sortie WHERE p.sortie_id = removed_sortie.id
), reservations AS (
    DELETE FROM missions_reservation r USING removed_sortie WHERE r.sortie_id = removed_sortie.id
), verified_trees AS (
    DELETE FROM missions_verifiedtree v USING removed WHERE v.mission_id = removed.id
), lanes AS (
    DELETE FROM missions_lane l USING removed JOIN missions_workspace w ON w.mission_id = removed.id
    WHERE l.repository = w.repository AND l.branch = w.branch
      AND NOT EXISTS (
          SELECT FROM missions_workspace other
          WHERE other.repository = w.repository AND other.branch = w.branch AND other.mission_id <> w.mission_id
            AND other.mission_id NOT IN (SELECT id FROM removed))
), workspaces AS (
    DELETE FROM missions_workspace w USING removed WHERE w.mission_id = removed.id
), sorties AS (
    DELETE FROM missions_sortie s USING removed_sortie WHERE s.id = removed_sortie.id
), events AS (
    DELETE FROM fleet_event e USING removed WHERE e.scope = removed.id
)
DELETE FROM missions_mission m USING removed WHERE m.id = removed.id
RETURNING m.id
