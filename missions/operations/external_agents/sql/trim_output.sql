-- Trim an attempt's output to its bound: keep `half` bytes at each end, and put one line between them that says how
-- many characters were left out. That line replaces the first piece that is removed. A piece counts its bytes plus
-- `row`.
WITH piece AS (
    SELECT id, stream, text,
           sum(octet_length(text) + %(row)s) OVER (ORDER BY id) AS to_here,
           sum(octet_length(text) + %(row)s) OVER (ORDER BY id DESC) AS from_here,
           bool_or(stream = 'fleet') OVER (ORDER BY id) AS after_line
    FROM missions_output
    WHERE sortie_id = %(sortie)s AND attempt = %(attempt)s
), middle AS (
    SELECT id, CASE stream WHEN 'fleet' THEN regexp_replace(text, '\D', '', 'g')::bigint ELSE char_length(text) END AS characters
    FROM piece
    WHERE stream = 'fleet' OR ((to_here > %(half)s OR after_line) AND from_here > %(half)s)
), sums AS (
    SELECT min(id) AS first, sum(characters) AS characters, count(*) AS pieces FROM middle
), removed AS (
    DELETE FROM missions_output o USING middle m, sums s WHERE o.id = m.id AND m.id <> s.first
)
UPDATE missions_output o
SET stream = 'fleet', text = E'\n… ' || s.characters || E' characters left out …\n'
FROM sums s
WHERE o.id = s.first AND (s.pieces > 1 OR o.stream <> 'fleet')
