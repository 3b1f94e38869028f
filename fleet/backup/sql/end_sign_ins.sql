-- End all sign-ins: some of them may have been ended after the backup.
WITH pages AS (DELETE FROM django_session)
UPDATE fleet_session SET ended_at = clock_timestamp() WHERE ended_at IS NULL;
