-- Note that the tip of the branch is about to become this commit, if the attempt is the running one.
UPDATE missions_change c
SET state = 'landing', landed = %(landed)s, onto = %(onto)s
FROM missions_sortie s
WHERE c.id = %(change)s AND s.id = c.sortie_id AND s.state = 'running' AND s.attempt = %(attempt)s
