-- Renew the leases of these attempts. The result says which sorties have a cancel request; an attempt that is absent
-- from it has lost its lease.
WITH renewal AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS t (id, attempt)
), locked AS (
    SELECT s.id FROM missions_sortie s JOIN renewal ON renewal.id = s.id
    WHERE s.state = 'running' AND s.attempt = renewal.attempt
    ORDER BY s.id
    FOR UPDATE OF s
)
UPDATE missions_sortie s
SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
FROM locked
WHERE s.id = locked.id
RETURNING s.id, s.attempt, s.cancel_requested
