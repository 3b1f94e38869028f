-- Remove missions with everything of theirs. Only those that have ended; the caller has chosen them.
WITH gone AS (
    SELECT id FROM missions_mission
    WHERE id = ANY (%(missions)s) AND state IN ('succeeded', 'failed', 'cancelled')
    FOR UPDATE SKIP LOCKED
), theirs AS (
    SELECT s.id FROM missions_sortie s JOIN gone ON gone.id = s.mission_id
), needs AS (
    DELETE FROM missions_need n USING theirs WHERE n.sortie_id = theirs.id
), output AS (
    DELETE FROM missions_output o USING theirs WHERE o.sortie_id = theirs.id
), artifacts AS (
    DELETE FROM missions_artifact a USING theirs WHERE a.sortie_id = theirs.id
), attempts AS (
    DELETE FROM missions_attempt a USING theirs WHERE a.sortie_id = theirs.id
), briefs AS (
    DELETE FROM missions_brief b USING theirs WHERE b.sortie_id = theirs.id
), sorties AS (
    DELETE FROM missions_sortie s USING theirs WHERE s.id = theirs.id
), events AS (
    DELETE FROM fleet_event e USING gone WHERE e.scope = gone.id
)
DELETE FROM missions_mission m USING gone WHERE m.id = gone.id
RETURNING m.id
