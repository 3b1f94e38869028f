-- Whether the site has been up without a gap for this long; true if no site was ever started.
SELECT coalesce(bool_and(heartbeat_at > clock_timestamp() - make_interval(secs => %(gap)s)
                         AND up_since < clock_timestamp() - make_interval(secs => %(for)s)), true)
FROM fleet_uptime
