-- Whether the site has answered all the time for so long, up to now; true where there has never been one.
SELECT coalesce(bool_and(heard_at > clock_timestamp() - make_interval(secs => %(gap)s)
                         AND up_since < clock_timestamp() - make_interval(secs => %(for)s)), true)
FROM fleet_uptime
