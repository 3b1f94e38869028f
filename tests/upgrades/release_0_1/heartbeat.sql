-- Record that an agent is alive and how many sorties it flies. Returns no row if it was given up.
UPDATE agents_agent a
SET heartbeat_at = clock_timestamp(),
    running = %(running)s,
    settled = coalesce(%(settled)s, a.settled),
    claimed_at = coalesce(clock_timestamp() - make_interval(secs => %(claimed_s_ago)s::float8), a.claimed_at),
    state = CASE WHEN a.state = 'draining' THEN 'draining' WHEN %(running)s > 0 THEN 'busy' ELSE 'idle' END
WHERE a.id = %(agent)s AND a.state IN ('spawning', 'idle', 'busy', 'draining')
RETURNING a.id
