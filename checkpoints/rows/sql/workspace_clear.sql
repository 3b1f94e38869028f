-- Clear the workspace parts of the sorties that a restore changes. Their changes stay for people to look at. But if the
-- row of a sortie is not the captured one, its attempts have other numbers, so its changes are removed.
WITH target AS (
    SELECT sortie, (kept ->> 'sortie')::uuid IS DISTINCT FROM sortie AS other_row FROM checkpoint_target WHERE NOT created
), kept AS (
    UPDATE missions_change c SET state = 'kept'
    FROM target WHERE c.sortie_id = target.sortie AND NOT target.other_row AND c.state <> 'kept'
), changes AS (
    DELETE FROM missions_change c USING target WHERE c.sortie_id = target.sortie AND target.other_row
), conflicts AS (
    DELETE FROM missions_conflict f USING target WHERE f.sortie_id = target.sortie
), reservations AS (
    DELETE FROM missions_reservation r USING target WHERE r.sortie_id = target.sortie AND r.attempt IS NULL
), patches AS (  -- the next attempt does the work again
    DELETE FROM missions_patch p USING target WHERE p.sortie_id = target.sortie
)
DELETE FROM missions_savedwork w USING target WHERE w.sortie_id = target.sortie
