-- What is ready under a limit that has room (of its key, its mission or its agent type), the most urgent first, with the
-- room under each; NULL: no limit. What is queued or runs takes a place.
WITH candidates AS MATERIALIZED (
    SELECT s.id, s.agent_type_id, s.mission_id, s.concurrency_key, s.priority, s.turn, m.at_once
    FROM missions_sortie s
    JOIN missions_mission m ON m.id = s.mission_id
    JOIN agents_agenttype t ON t.name = s.agent_type_id
    WHERE s.state = 'ready' AND m.state = 'running'
      AND (s.concurrency_key IS NOT NULL OR m.at_once > 0 OR t.at_once > 0)
      AND (s.wake_at IS NULL OR s.wake_at <= clock_timestamp())
), keys AS MATERIALIZED (
    SELECT k.key,
           k."limit" - (SELECT count(*) FROM missions_sortie o
                        WHERE o.concurrency_key = k.key AND o.concurrency_key IS NOT NULL
                          AND o.state IN ('queued', 'running')) AS room
    FROM missions_concurrencykey k
    WHERE k.key IN (SELECT concurrency_key FROM candidates)
), missions AS MATERIALIZED (
    SELECT c.mission_id,
           c.at_once - (SELECT count(*) FROM missions_sortie o
                        WHERE o.mission_id = c.mission_id AND o.state IN ('queued', 'running')) AS room
    FROM (SELECT DISTINCT mission_id, at_once FROM candidates WHERE at_once > 0) c
), types AS MATERIALIZED (
    SELECT t.name,
           t.at_once - (SELECT count(*) FROM missions_sortie o
                        WHERE o.agent_type_id = t.name AND o.state IN ('queued', 'running')) AS room
    FROM agents_agenttype t
    WHERE t.at_once > 0 AND t.name IN (SELECT agent_type_id FROM candidates)
)
SELECT c.id, c.agent_type_id, c.mission_id, c.concurrency_key, k.room, m.room, t.room
FROM candidates c
LEFT JOIN keys k ON k.key = c.concurrency_key
LEFT JOIN missions m ON m.mission_id = c.mission_id
LEFT JOIN types t ON t.name = c.agent_type_id
WHERE coalesce(k.room, 1) > 0 AND coalesce(m.room, 1) > 0 AND coalesce(t.room, 1) > 0
ORDER BY c.priority DESC, c.turn, c.id
LIMIT %(limit)s
