-- Set the token of an attempt, if it is the running one. Its commit does not wait for the disk, because every start of
-- a process waits for it. So a token issued in the last half second before a crash of Postgres may be unknown
-- afterwards.
-- https://www.postgresql.org/docs/current/wal-async-commit.html
UPDATE missions_attempt a
SET token = %(digest)s
FROM missions_sortie s
WHERE s.id = %(sortie)s AND s.state = 'running' AND s.attempt = %(attempt)s
  AND a.sortie_id = s.id AND a.number = s.attempt
  AND set_config('synchronous_commit', 'off', true) = 'off'
