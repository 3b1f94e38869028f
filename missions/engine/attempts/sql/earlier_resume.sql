-- The value to resume from that attempts of a sortie before `attempt` saved: that of the newest one that saved any.
SELECT resume::text
FROM missions_attempt
WHERE sortie_id = %(sortie)s AND number < %(attempt)s AND resume IS NOT NULL
ORDER BY number DESC
LIMIT 1
