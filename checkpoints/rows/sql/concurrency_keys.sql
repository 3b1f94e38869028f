-- Create the concurrency keys of a checkpoint that do not exist. Existing ones keep their limits.
INSERT INTO missions_concurrencykey (key, "limit")
SELECT key, value::int FROM jsonb_each_text(%(keys)s::jsonb)
ON CONFLICT (key) DO NOTHING
