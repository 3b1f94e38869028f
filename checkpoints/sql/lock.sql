-- Lock a mission's sorties. The running ones come first: an agent that settles one of them then locks its dependents,
-- so to lock a dependent before it would be a deadlock.
WITH running AS MATERIALIZED (
    SELECT id FROM missions_sortie WHERE mission_id = %(mission)s AND state = 'running' ORDER BY id FOR UPDATE
), others AS MATERIALIZED (
    SELECT s.id FROM missions_sortie s
    WHERE s.mission_id = %(mission)s AND (SELECT count(*) FROM running) >= 0
    ORDER BY s.id
    FOR UPDATE
)
SELECT count(*) FROM others
