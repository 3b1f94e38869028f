-- Give the files of an earlier attempt to the running one, which only merges that attempt's work.
INSERT INTO missions_artifact (id, sortie_id, attempt, path, digest, size, media_type)
SELECT gen_random_uuid(), a.sortie_id, s.attempt, a.path, a.digest, a.size, a.media_type
FROM missions_artifact a JOIN missions_sortie s ON s.id = a.sortie_id
WHERE a.sortie_id = %(sortie)s AND a.attempt = %(earlier)s AND s.attempt = %(attempt)s AND s.state = 'running'
ON CONFLICT (sortie_id, attempt, path) DO NOTHING
