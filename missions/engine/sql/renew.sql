-- Renew the leases of one process, all in one statement. The reply says which of them somebody wants stopped;
-- an attempt that is missing from it has lost its lease.
WITH said AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS t (id, attempt)
), held AS (
    SELECT s.id FROM missions_sortie s JOIN said ON said.id = s.id
    WHERE s.state = 'running' AND s.attempt = said.attempt
    ORDER BY s.id
    FOR UPDATE OF s
)
UPDATE missions_sortie s
SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
FROM held
WHERE s.id = held.id
RETURNING s.id, s.attempt, s.cancel_requested
