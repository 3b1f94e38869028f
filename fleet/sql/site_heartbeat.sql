-- Record a heartbeat of a process of the site. After a gap, a new period of uptime begins.
INSERT INTO fleet_uptime (id, up_since, heartbeat_at)
VALUES (1, clock_timestamp(), clock_timestamp())
ON CONFLICT (id) DO UPDATE
    SET up_since = CASE WHEN fleet_uptime.heartbeat_at < clock_timestamp() - make_interval(secs => %(gap)s)
                        THEN clock_timestamp() ELSE fleet_uptime.up_since END,
        heartbeat_at = clock_timestamp()
