-- For each agent type: how many of its agents died within the last hour before they ran anything, since the last one
-- that worked; and of the last of them, how long ago it ended, its id and its reason. Agents that died with their node
-- do not count.
WITH recent AS (
    SELECT a.id, a.type_id, a.spawned_at, a.ended_at, a.reason,
           a.settled > 0 OR a.claimed_at IS NOT NULL
               OR a.state <> 'failed' AND coalesce(a.ended_at, clock_timestamp()) - a.spawned_at > make_interval(secs => %(steady)s)
               AS worked,
           a.ended_at > clock_timestamp() - interval '1 hour'
               AND (a.state = 'failed'
                    OR a.state = 'lost' AND n.joined_at <= a.spawned_at AND n.heartbeat_at > a.ended_at) AS died
    FROM agents_agent a LEFT JOIN agents_node n ON n.id = a.node_id
    WHERE a.id > %(since)s  -- ids grow with time, so older agents are not read
), worked AS (
    SELECT type_id, max(spawned_at) AS last FROM recent WHERE worked GROUP BY type_id
)
SELECT r.type_id, count(*)::int, extract(epoch FROM clock_timestamp() - max(r.ended_at))::float8,
       (array_agg(r.id ORDER BY r.ended_at DESC, r.id))[1], (array_agg(r.reason ORDER BY r.ended_at DESC, r.id))[1]
FROM recent r LEFT JOIN worked ON worked.type_id = r.type_id
WHERE r.died AND NOT r.worked AND (worked.last IS NULL OR r.spawned_at > worked.last)
GROUP BY r.type_id
