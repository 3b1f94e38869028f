-- The ready sorties that wait for reservations and are ahead of the last contender, the most urgent first: a later
-- sortie that overlaps one of them must not overtake it. Only those that the contenders may overlap are returned: their
-- pattern is in one of `folders` (those of the contenders' patterns and all above), or below one of them, where its
-- folder is between `low` and `high`.
--
-- LATERAL with OFFSET or LIMIT makes Postgres use the indexes. Without statistics it would compare all with all.
WITH candidate AS (
    SELECT found.id
    FROM unnest(%(repositories)s::text[], %(branches)s::text[], %(folders)s::text[]) AS w (repository, branch, folder)
    CROSS JOIN LATERAL (
        SELECT r.id FROM missions_reservation r
        WHERE r.repository = w.repository AND r.branch = w.branch AND r.folder = w.folder
        OFFSET 0
    ) AS found
    UNION
    SELECT found.id
    FROM unnest(%(lower_repositories)s::text[], %(lower_branches)s::text[], %(low)s::text[], %(high)s::text[])
         AS w (repository, branch, low, high)
    CROSS JOIN LATERAL (
        SELECT r.id FROM missions_reservation r
        WHERE r.repository = w.repository AND r.branch = w.branch AND r.folder >= w.low AND r.folder < w.high
        OFFSET 0
    ) AS found
)
SELECT r.repository, r.branch, s.id, s.mission_id, s.key, r.pattern, r.shared, s.priority, s.turn
FROM candidate
CROSS JOIN LATERAL (
    SELECT * FROM missions_reservation r WHERE r.id = candidate.id AND r.attempt IS NULL AND r.released_at IS NULL LIMIT 1
) AS r
CROSS JOIN LATERAL (
    SELECT s.id, s.mission_id, s.key, s.priority, s.turn
    FROM missions_sortie s
    WHERE s.id = r.sortie_id AND s.state = 'ready' AND s.agent_type_id = ANY (%(served)s)
      AND (s.wake_at IS NULL OR s.wake_at <= clock_timestamp())
      AND (-s.priority, s.turn, s.id) < (%(priority)s::int, %(turn)s::bigint, %(last)s::uuid)
    LIMIT 1
) AS s
JOIN missions_mission m ON m.id = s.mission_id AND m.state = 'running'
ORDER BY s.priority DESC, s.turn, s.id
