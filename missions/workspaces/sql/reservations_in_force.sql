-- The reservations in force on these branches.
--
-- Those of a plan last while their sortie is queued, runs, or waits for its merge; those that an attempt requested
-- while it runs, at most until their time. A change that is still to be merged reserves its files (`literal`: not
-- patterns); these are left out unless `changes` is true. LATERAL makes Postgres look up each sortie by its id,
-- statistics or not.
WITH branch AS (
    SELECT DISTINCT * FROM unnest(%(repositories)s::text[], %(branches)s::text[]) AS b (repository, branch)
)
SELECT r.repository, r.branch, s.id, s.mission_id, s.key, r.pattern, r.shared, false AS literal
FROM branch
JOIN missions_reservation r ON r.repository = branch.repository AND r.branch = branch.branch
CROSS JOIN LATERAL (SELECT * FROM missions_sortie o WHERE o.id = r.sortie_id LIMIT 1) AS s
WHERE r.released_at IS NULL
  AND CASE WHEN r.attempt IS NULL
           THEN s.state IN ('queued', 'running') OR s.state = 'waiting' AND s.waits_on = 'merge'
           ELSE s.state = 'running' AND s.attempt = r.attempt AND r.until > clock_timestamp() END
UNION ALL
SELECT w.repository, w.branch, s.id, s.mission_id, s.key, file, false, true
FROM branch
JOIN missions_workspace w ON w.repository = branch.repository AND w.branch = branch.branch
JOIN missions_sortie s ON s.mission_id = w.mission_id AND NOT @missions.sortie_has_ended(s)
JOIN missions_change c ON c.sortie_id = s.id AND c.state IN ('committed', 'landing')
CROSS JOIN jsonb_array_elements_text(c.files) AS file
WHERE %(changes)s AND (s.state IN ('queued', 'running') OR s.state = 'waiting' AND s.waits_on = 'merge')
