-- How many sorties of running missions have waited longer than `after` seconds for agents of these types, by type.
SELECT s.agent_type_id, count(*)
FROM missions_sortie s JOIN missions_mission m ON m.id = s.mission_id
WHERE s.state IN ('queued', 'ready') AND s.agent_type_id = ANY (%(types)s) AND m.state = 'running'
  AND s.ready_at < clock_timestamp() - make_interval(secs => %(after)s)
GROUP BY s.agent_type_id
