-- Return these queued sorties to ready. Rows that an agent is claiming are skipped: they run, and keep their places.
WITH locked AS (
    SELECT s.id FROM missions_sortie s
    WHERE s.id = ANY (%(ids)s) AND s.state = 'queued'
    ORDER BY s.id
    FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
    UPDATE missions_sortie s SET state = 'ready', gated = true, ready_at = clock_timestamp()
    FROM locked
    WHERE s.id = locked.id AND s.state = 'queued'
    RETURNING s.id, s.mission_id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.ready', mission_id, id, jsonb_build_object('from', 'queued', 'why', %(why)s::text) FROM moved
)
SELECT id FROM moved
