-- Record the files that an attempt produced, only if it is the running one.
INSERT INTO missions_artifact (id, sortie_id, attempt, path, digest, size, media_type)
SELECT file.id, s.id, s.attempt, file.path, file.digest, file.size, file.media_type
FROM missions_sortie s,
     unnest(%(ids)s::uuid[], %(paths)s::text[], %(digests)s::text[], %(sizes)s::bigint[], %(types)s::text[])
         AS file (id, path, digest, size, media_type)
WHERE s.id = %(sortie)s AND s.attempt = %(attempt)s AND s.state = 'running'
ON CONFLICT (sortie_id, attempt, path) DO NOTHING
