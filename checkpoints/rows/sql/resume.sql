-- Let the next attempts of sorties that have not ended continue from what was captured: that is now what the newest attempt
-- has saved. Other attempts would be preferred to it if they were newer.
UPDATE missions_attempt a
SET resume = CASE WHEN a.number = s.attempt THEN nullif(t.kept -> 'resume', 'null') END
FROM checkpoint_target t JOIN missions_sortie s ON s.id = t.sortie
WHERE a.sortie_id = s.id AND t.state ->> 'state' IN ('pending', 'due')
  AND a.resume IS DISTINCT FROM CASE WHEN a.number = s.attempt THEN nullif(t.kept -> 'resume', 'null') END
