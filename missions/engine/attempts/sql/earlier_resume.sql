-- What the newest attempt of a sortie before `attempt` that saved anything saved to resume from.
SELECT resume::text
FROM missions_attempt
WHERE sortie_id = %(sortie)s AND number < %(attempt)s AND resume IS NOT NULL
ORDER BY number DESC
LIMIT 1
