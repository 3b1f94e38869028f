-- From now on this is the token of an attempt, if it is the running one.
UPDATE missions_attempt a
SET token = %(digest)s
FROM missions_sortie s
WHERE s.id = %(sortie)s AND s.state = 'running' AND s.attempt = %(attempt)s
  AND a.sortie_id = s.id AND a.number = s.attempt
