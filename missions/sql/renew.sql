-- Renew the leases of these attempts. The result says which sorties have a cancel request; an attempt that is absent
-- from it has lost its lease.
WITH renewal AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS t (id, attempt)
), locked AS (
    SELECT s.id
    FROM (SELECT * FROM renewal ORDER BY id) renewal
    CROSS JOIN LATERAL (
        SELECT id FROM missions_sortie
        WHERE id = renewal.id AND attempt = renewal.attempt AND lease_until IS NOT NULL
        FOR NO KEY UPDATE
    ) s
)
UPDATE missions_sortie s
SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
FROM locked
WHERE s.id = locked.id
RETURNING s.id, s.attempt, s.cancel_requested
