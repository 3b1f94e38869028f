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
), sorties AS (
    DELETE FROM missions_sortie s USING doomed_sortie WHERE s.id = doomed_sortie.id
), events AS (
    DELETE FROM fleet_event e USING doomed WHERE e.scope = doomed.id
)
DELETE FROM missions_mission m USING doomed WHERE m.id = doomed.id
RETURNING m.id
