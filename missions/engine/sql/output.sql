-- Store pieces of output, each only if its attempt is the running one.
INSERT INTO missions_output (sortie_id, attempt, stream, at, text)
SELECT said.id, said.attempt, said.stream, to_timestamp(said.at), said.text
FROM unnest(%(ids)s::uuid[], %(attempts)s::int[], %(streams)s::text[], %(ats)s::float8[], %(texts)s::text[])
    WITH ORDINALITY AS said (id, attempt, stream, at, text, place)
JOIN missions_sortie s ON s.id = said.id
WHERE s.state = 'running' AND s.attempt = said.attempt
ORDER BY said.place
