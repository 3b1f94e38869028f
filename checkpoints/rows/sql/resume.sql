-- Let the next attempts of unfinished sorties continue from the captured values: store them as what the newest attempt
-- has saved, because the next attempt uses the newest value.
UPDATE missions_attempt a
SET resume = CASE WHEN a.number = s.attempt THEN nullif(t.kept -> 'resume', 'null') END
FROM checkpoint_target t JOIN missions_sortie s ON s.id = t.sortie
WHERE a.sortie_id = s.id AND t.state ->> 'state' IN ('pending', 'due')
  AND a.resume IS DISTINCT FROM CASE WHEN a.number = s.attempt THEN nullif(t.kept -> 'resume', 'null') END
