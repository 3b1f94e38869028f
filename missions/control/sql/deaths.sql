-- Of each agent type: how many of its agents ended badly within the last hour before they had flown anything, since the
-- last one that got on; how long ago the last of them ended, which it was, and why. Nobody is blamed for its node's death.
WITH lately AS (
    SELECT a.id, a.type_id, a.spawned_at, a.ended_at, a.reason,
           a.flown > 0 OR a.claimed_at IS NOT NULL
               OR a.state <> 'failed' AND coalesce(a.ended_at, clock_timestamp()) - a.spawned_at > make_interval(secs => %(steady)s)
               AS got_on,
           a.ended_at > clock_timestamp() - interval '1 hour'
               AND (a.state = 'failed'
                    OR a.state = 'lost' AND n.joined_at <= a.spawned_at AND n.heartbeat_at > a.ended_at) AS ended_badly
    FROM agents_agent a LEFT JOIN agents_node n ON n.id = a.node_id
    WHERE a.id > %(since)s  -- their ids grow with time: what is older is not looked through
), got_on AS (
    SELECT type_id, max(spawned_at) AS last FROM lately WHERE got_on GROUP BY type_id
)
SELECT l.type_id, count(*)::int, extract(epoch FROM clock_timestamp() - max(l.ended_at))::float8,
       (array_agg(l.id ORDER BY l.ended_at DESC, l.id))[1], (array_agg(l.reason ORDER BY l.ended_at DESC, l.id))[1]
FROM lately l LEFT JOIN got_on ON got_on.type_id = l.type_id
WHERE l.ended_badly AND NOT l.got_on AND (got_on.last IS NULL OR l.spawned_at > got_on.last)
GROUP BY l.type_id
