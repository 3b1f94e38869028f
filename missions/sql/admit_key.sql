-- Queue the most urgent of one key, as many as are free under its limit. The caller holds the key's row.
WITH held AS (
    SELECT count(*) AS taken FROM missions_sortie
    WHERE concurrency_key = %(key)s AND concurrency_key IS NOT NULL AND state IN ('queued', 'running')
), free AS (
    SELECT s.id FROM missions_sortie s JOIN missions_mission m ON m.id = s.mission_id
    WHERE s.state = 'ready' AND s.concurrency_key = %(key)s AND m.state = 'running'
      AND (s.wake_at IS NULL OR s.wake_at <= clock_timestamp())
    ORDER BY s.priority DESC, s.turn, s.id
    LIMIT (SELECT greatest(0, k."limit" - held.taken) FROM missions_concurrencykey k, held WHERE k.key = %(key)s)
    FOR UPDATE OF s
), admitted AS (
    UPDATE missions_sortie s SET state = 'queued', wake_at = NULL
    FROM free
    WHERE s.id = free.id AND s.state = 'ready'
    RETURNING s.id, s.mission_id, s.agent_type_id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.queued', mission_id, id, '{"from": "ready"}' FROM admitted
)
SELECT agent_type_id FROM admitted
