-- Lock a mission's sorties, the running ones first: an agent that settles a running sortie locks its dependents after
-- it, so locking a dependent first could deadlock.
WITH running AS MATERIALIZED (
    SELECT id FROM missions_sortie WHERE mission_id = %(mission)s AND state = 'running' ORDER BY id FOR NO KEY UPDATE
), others AS MATERIALIZED (
    SELECT s.id FROM missions_sortie s
    WHERE s.mission_id = %(mission)s AND (SELECT count(*) FROM running) >= 0
    ORDER BY s.id
    FOR NO KEY UPDATE
)
SELECT count(*) FROM others
