-- Delete coarse samples from before `before`, oldest first, at most `limit`.
DELETE FROM agents_sample WHERE id IN (
    SELECT id FROM agents_sample WHERE step_s >= 600 AND at < %(before)s ORDER BY at LIMIT %(limit)s
)
