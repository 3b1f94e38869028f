-- Agents that send heartbeats and have a free slot, but have claimed nothing for `after` seconds although work for
-- their type has been queued for as long. An agent is exempt for twice that time after it was spawned.
SELECT a.id
FROM agents_agent a
WHERE a.state IN ('idle', 'busy')
  AND a."order" = ''
  AND a.heartbeat_at > clock_timestamp() - make_interval(secs => %(fresh)s)
  AND a.running < a.concurrency
  AND coalesce(a.claimed_at, a.spawned_at) < clock_timestamp() - make_interval(secs => %(after)s)
  AND a.spawned_at < clock_timestamp() - make_interval(secs => 2 * %(after)s)
  AND EXISTS (
      SELECT FROM missions_sortie s JOIN missions_mission m ON m.id = s.mission_id
      WHERE s.agent_type_id = a.type_id AND s.state = 'queued' AND m.state = 'running'
        AND s.ready_at < clock_timestamp() - make_interval(secs => %(after)s)
  )
ORDER BY a.id
