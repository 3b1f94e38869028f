-- After a backup was restored: attempts that were claimed after the backup may still run, with numbers that are not in
-- these rows. So no sortie starts before a lease (`lease` seconds) has passed, and the next attempt of each has a
-- number that none of them can have. Running sorties are interrupted, which costs no try. A running sortie with a
-- cancel request is left to the rescue, which cancels it when the lease has passed. Succeeded sorties never run again,
-- unless they are `if: always`.
--
-- Adopted checkpoints may be newer than these rows: `mission.changed` makes the next capture read everything.
WITH later AS (
    SELECT clock_timestamp() + make_interval(secs => %(lease)s) AS at
), before AS (
    SELECT s.id, s.mission_id, s.state, s.attempt,
           s.state = 'running' AND (s.cancel_requested OR m.state = 'cancelling') AS cancelling,
           @missions.sortie_has_ended(s) AS final
    FROM missions_sortie s JOIN missions_mission m ON m.id = s.mission_id
    WHERE s.state <> 'succeeded' OR s.always
), changed AS (
    SELECT b.*, b.state IN ('running', 'queued', 'ready') AND NOT b.cancelling AS deferred FROM before b
), fenced AS (
    UPDATE missions_sortie s
    SET attempt = s.attempt + 1000,
        accepted = CASE WHEN b.final THEN coalesce(s.accepted, s.attempt) END,
        state = CASE WHEN b.deferred THEN 'waiting' ELSE s.state END,
        waits_on = CASE WHEN b.deferred THEN 'time' ELSE s.waits_on END,
        waits_for = CASE WHEN b.deferred THEN 'attempts from before the restore to end' ELSE s.waits_for END,
        wake_at = CASE WHEN b.deferred THEN later.at
                       WHEN s.state = 'waiting' AND s.waits_on = 'time' THEN greatest(s.wake_at, later.at)
                       ELSE s.wake_at END,
        ready_at = CASE WHEN b.deferred THEN clock_timestamp() ELSE s.ready_at END,
        blocked_by_id = CASE WHEN b.deferred THEN NULL ELSE s.blocked_by_id END,
        agent_id = CASE WHEN b.final THEN s.agent_id END,
        lease_until = CASE WHEN b.cancelling THEN later.at END,
        rescues = CASE WHEN b.cancelling THEN 0 ELSE s.rescues END
    FROM changed b, later
    WHERE s.id = b.id
    RETURNING s.id
), attempts AS (
    UPDATE missions_attempt a
    SET state = 'lost', finished_at = clock_timestamp(), error = 'It was interrupted: the database was restored from a backup.'
    FROM changed b
    WHERE b.state = 'running' AND a.sortie_id = b.id AND a.number = b.attempt
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.waiting', b.mission_id, b.id, jsonb_build_object('from', b.state, 'why', 'backup restored')
    FROM changed b WHERE b.deferred
    UNION ALL
    SELECT 'mission.changed', m.id, m.id, '{"why": "backup restored"}'
    FROM missions_mission m WHERE NOT @missions.mission_has_ended(m)
)
SELECT count(*) FROM fenced;
