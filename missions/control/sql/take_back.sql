-- Take places back from these: queued → ready. Rows that an agent is just taking are passed over: they run, and keep theirs.
WITH held AS (
    SELECT s.id FROM missions_sortie s
    WHERE s.id = ANY (%(ids)s) AND s.state = 'queued'
    ORDER BY s.id
    FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE missions_sortie s SET state = 'ready', gated = true, ready_at = clock_timestamp()
    FROM held
    WHERE s.id = held.id AND s.state = 'queued'
    RETURNING s.id, s.mission_id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.ready', mission_id, id, jsonb_build_object('from', 'queued', 'why', %(why)s::text) FROM moved
)
SELECT id FROM moved
