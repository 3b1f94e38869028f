-- Store pieces of output, each only if its attempt is the running one.
INSERT INTO missions_output (sortie_id, attempt, stream, at, text)
SELECT piece.id, piece.attempt, piece.stream, to_timestamp(piece.at), piece.text
FROM unnest(%(ids)s::uuid[], %(attempts)s::int[], %(streams)s::text[], %(ats)s::float8[], %(texts)s::text[])
    WITH ORDINALITY AS piece (id, attempt, stream, at, text, place)
JOIN missions_sortie s ON s.id = piece.id
WHERE s.state = 'running' AND s.attempt = piece.attempt
ORDER BY piece.place
