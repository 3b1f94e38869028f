-- Record that the changes of sorties that have just succeeded have landed, and close the conflicts of sorties that have
-- ended: a person's conflict is resolved if the sortie has succeeded, and a rework has failed with its sortie.
WITH landed AS (
    UPDATE missions_change c SET state = 'landed'
    FROM missions_sortie s
    WHERE s.id = ANY (%(sorties)s) AND s.state = 'succeeded' AND c.sortie_id = s.id AND c.state = 'landing'
    RETURNING c.sortie_id, c.landed, c.number_of_files, s.mission_id
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.landed', mission_id, sortie_id, jsonb_build_object('commit', landed, 'files', number_of_files)
    FROM landed
)
UPDATE missions_conflict f
SET outcome = CASE WHEN s.state = 'succeeded' AND f.outcome = 'manual' THEN 'resolved'
                   WHEN s.state = 'failed' AND f.outcome = 'rework' THEN 'failed'
                   ELSE f.outcome END,
    closed_at = clock_timestamp()
FROM missions_sortie s
WHERE s.id = ANY (%(sorties)s) AND s.state IN ('succeeded', 'failed') AND f.sortie_id = s.id AND f.closed_at IS NULL
  AND f.kind IN ('stray', 'merge', 'verify')
