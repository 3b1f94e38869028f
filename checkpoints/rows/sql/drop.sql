-- Remove sorties that were added after the checkpoint.
WITH dropped AS (
    SELECT id, mission_id, state FROM missions_sortie WHERE id = ANY (%(sorties)s)
), needs AS (
    DELETE FROM missions_need n USING dropped WHERE n.sortie_id = dropped.id OR n.upstream_id = dropped.id
), output AS (
    DELETE FROM missions_output o USING dropped WHERE o.sortie_id = dropped.id
), artifacts AS (
    DELETE FROM missions_artifact a USING dropped WHERE a.sortie_id = dropped.id
), attempts AS (
    DELETE FROM missions_attempt a USING dropped WHERE a.sortie_id = dropped.id
), changes AS (
    DELETE FROM missions_change c USING dropped WHERE c.sortie_id = dropped.id
), conflicts AS (
    DELETE FROM missions_conflict f USING dropped WHERE f.sortie_id = dropped.id
), reservations AS (
    DELETE FROM missions_reservation r USING dropped WHERE r.sortie_id = dropped.id
), patches AS (
    DELETE FROM missions_patch p USING dropped WHERE p.sortie_id = dropped.id
), works AS (
    DELETE FROM missions_savedwork w USING dropped WHERE w.sortie_id = dropped.id
), briefs AS (
    DELETE FROM missions_brief b USING dropped WHERE b.sortie_id = dropped.id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.removed', mission_id, id,
           jsonb_build_object('from', state, 'why', 'restore', 'checkpoint', %(checkpoint)s::text)
    FROM dropped
)
DELETE FROM missions_sortie s USING dropped WHERE s.id = dropped.id
