-- The sorties that contend for places under limits (of a concurrency key, a mission, an agent type) and for the files
-- that they reserve, the most urgent first, with the room under each limit (NULL: no limit). Each queued or running
-- sortie occupies a place.
--
-- 1. Ready sorties of types that agents serve, if each of their limits has room or has a less urgent sortie that is
--    only queued. Those that wait for a reservation (`blocked_by`) are left out while the blocking sortie keeps it or is
--    ahead of them, unless a request of that sortie has expired, which may have been what blocked them. Only sorties that
--    reserve files are blocked.
-- 2. Queued sorties under a limit with more contenders than room, or with reservations on the branch of a contender, if
--    they are less urgent than the first contender.
WITH candidates AS MATERIALIZED (
    SELECT s.id, s.agent_type_id, s.mission_id, s.concurrency_key, s.priority, s.turn, m.max_running, own.reserves
    FROM missions_sortie s
    JOIN missions_mission m ON m.id = s.mission_id
    JOIN agents_agenttype t ON t.name = s.agent_type_id
    CROSS JOIN LATERAL (
        SELECT s.blocked_by_id IS NOT NULL
               OR EXISTS (SELECT FROM missions_reservation r
                          WHERE r.sortie_id = s.id AND r.attempt IS NULL AND r.released_at IS NULL) AS reserves
    ) AS own
    LEFT JOIN missions_sortie o ON o.id = s.blocked_by_id
    LEFT JOIN missions_mission om ON om.id = o.mission_id
    WHERE s.state = 'ready' AND m.state = 'running' AND t.name = ANY (%(served)s)
      AND (s.concurrency_key IS NOT NULL OR m.max_running > 0 OR t.max_running > 0 OR own.reserves)
      AND (s.wake_at IS NULL OR s.wake_at <= clock_timestamp())
      AND (o.id IS NULL
           OR NOT (o.state = 'running'
                   OR o.state = 'queued' AND o.priority >= s.priority
                   OR o.state = 'waiting' AND o.waits_on = 'merge'
                   OR o.state = 'ready' AND om.state = 'running' AND o.agent_type_id = ANY (%(served)s)
                      AND (o.wake_at IS NULL OR o.wake_at <= clock_timestamp())
                      AND (-o.priority, o.turn, o.id) < (-s.priority, s.turn, s.id))
           OR o.state = 'running'
              AND EXISTS (SELECT FROM missions_reservation r WHERE r.sortie_id = o.id AND r.until <= clock_timestamp()))
), keys AS MATERIALIZED (
    SELECT k.key, k."limit" - taken.number AS room, taken.lowest
    FROM missions_concurrencykey k
    CROSS JOIN LATERAL (
        SELECT count(*) AS number, min(o.priority) FILTER (WHERE o.state = 'queued') AS lowest
        FROM missions_sortie o
        WHERE o.concurrency_key = k.key AND o.concurrency_key IS NOT NULL AND o.state IN ('queued', 'running')
    ) AS taken
    WHERE k.key IN (SELECT concurrency_key FROM candidates)
), missions AS MATERIALIZED (
    SELECT c.mission_id, c.max_running - taken.number AS room, taken.lowest
    FROM (SELECT DISTINCT mission_id, max_running FROM candidates WHERE max_running > 0) c
    CROSS JOIN LATERAL (
        SELECT count(*) AS number, min(o.priority) FILTER (WHERE o.state = 'queued') AS lowest
        FROM missions_sortie o
        WHERE o.mission_id = c.mission_id AND o.state IN ('queued', 'running')
    ) AS taken
), types AS MATERIALIZED (
    SELECT t.name, t.max_running - taken.number AS room, taken.lowest
    FROM agents_agenttype t
    CROSS JOIN LATERAL (
        SELECT count(*) AS number, min(o.priority) FILTER (WHERE o.state = 'queued') AS lowest
        FROM missions_sortie o
        WHERE o.agent_type_id = t.name AND o.state IN ('queued', 'running')
    ) AS taken
    WHERE t.max_running > 0 AND t.name IN (SELECT agent_type_id FROM candidates)
), ready AS MATERIALIZED (
    SELECT c.id, c.agent_type_id, c.mission_id, c.concurrency_key, c.priority, c.turn, c.reserves
    FROM candidates c
    LEFT JOIN keys k ON k.key = c.concurrency_key
    LEFT JOIN missions m ON m.mission_id = c.mission_id
    LEFT JOIN types t ON t.name = c.agent_type_id
    WHERE (k.key IS NULL OR k.room > 0 OR k.lowest < c.priority)
      AND (m.mission_id IS NULL OR m.room > 0 OR m.lowest < c.priority)
      AND (t.name IS NULL OR t.room > 0 OR t.lowest < c.priority)
    ORDER BY c.priority DESC, c.turn, c.id
    LIMIT %(limit)s
), queued AS (
    SELECT s.id
    FROM (SELECT concurrency_key, count(*) AS number, max(priority) AS highest FROM ready GROUP BY 1) AS r
    JOIN keys k ON k.key = r.concurrency_key AND k.room < r.number AND k.lowest < r.highest
    JOIN missions_sortie s ON s.concurrency_key = k.key AND s.concurrency_key IS NOT NULL
                          AND s.state IN ('queued', 'running')
    WHERE s.state = 'queued' AND s.priority < r.highest
    UNION
    SELECT s.id
    FROM (SELECT mission_id, count(*) AS number, max(priority) AS highest FROM ready GROUP BY 1) AS r
    JOIN missions m ON m.mission_id = r.mission_id AND m.room < r.number AND m.lowest < r.highest
    JOIN missions_sortie s ON s.mission_id = m.mission_id
    WHERE s.state = 'queued' AND s.priority < r.highest
    UNION
    SELECT s.id
    FROM (SELECT agent_type_id, count(*) AS number, max(priority) AS highest FROM ready GROUP BY 1) AS r
    JOIN types t ON t.name = r.agent_type_id AND t.room < r.number AND t.lowest < r.highest
    JOIN missions_sortie s ON s.agent_type_id = t.name
    WHERE s.state = 'queued' AND s.priority < r.highest
    UNION
    SELECT s.id
    FROM (SELECT r.repository, r.branch, max(ready.priority) AS highest
          FROM ready JOIN missions_reservation r ON r.sortie_id = ready.id
          WHERE ready.reserves
          GROUP BY 1, 2) AS branch
    JOIN missions_reservation r ON r.repository = branch.repository AND r.branch = branch.branch AND r.attempt IS NULL
                               AND r.released_at IS NULL
    CROSS JOIN LATERAL (SELECT o.id, o.state, o.priority FROM missions_sortie o WHERE o.id = r.sortie_id LIMIT 1) AS s
    WHERE s.state = 'queued' AND s.priority < branch.highest
), contenders AS (
    SELECT id, agent_type_id, mission_id, concurrency_key, priority, turn, reserves, false AS queued FROM ready
    UNION ALL
    SELECT s.id, s.agent_type_id, s.mission_id, s.concurrency_key, s.priority, s.turn,
           EXISTS (SELECT FROM missions_reservation r
                   WHERE r.sortie_id = s.id AND r.attempt IS NULL AND r.released_at IS NULL), true
    FROM queued JOIN missions_sortie s ON s.id = queued.id
)
SELECT c.id, c.agent_type_id, c.mission_id, c.concurrency_key, c.queued, k.room, m.room, t.room, c.reserves,
       c.priority, c.turn
FROM contenders c
LEFT JOIN keys k ON k.key = c.concurrency_key
LEFT JOIN missions m ON m.mission_id = c.mission_id
LEFT JOIN types t ON t.name = c.agent_type_id
ORDER BY c.priority DESC, c.queued DESC, c.turn, c.id
