-- Running attempts without activity for longer than their plan, else their type, else the setting allows (0: no limit).
-- Activity is recorded only every `recorded_every` seconds, so that much is added.
SELECT s.id, s.key, m.id, m.name, extract(epoch FROM clock_timestamp() - activity.at)::float8
FROM missions_sortie s
JOIN missions_mission m ON m.id = s.mission_id
JOIN missions_brief b ON b.sortie_id = s.id
JOIN agents_agenttype t ON t.name = s.agent_type_id
CROSS JOIN LATERAL (
    SELECT make_interval(secs => wait + %(recorded_every)s) AS allowed
    FROM (SELECT coalesce(b.alert_silence_s, t.alert_silence_s, %(after)s) AS wait) AS rule
    WHERE wait > 0
) AS rule
CROSS JOIN LATERAL (
    SELECT coalesce(max(a.last_activity_at), s.started_at) AS at FROM missions_attempt a
    WHERE a.sortie_id = s.id AND a.number = s.attempt
) AS activity
WHERE s.state = 'running'
  AND s.started_at < clock_timestamp() - rule.allowed AND activity.at < clock_timestamp() - rule.allowed
ORDER BY activity.at, s.id
LIMIT %(limit)s
