-- Delete coarse samples from before %(before)s, oldest first, at most %(limit)s.
DELETE FROM agents_sample WHERE id IN (
    SELECT id FROM agents_sample WHERE step_s >= 600 AND at < %(before)s ORDER BY at LIMIT %(limit)s
)
