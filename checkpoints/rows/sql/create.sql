-- Create the sorties that a checkpoint has and the mission does not, without their final states and needs.
WITH created AS (
    INSERT INTO missions_sortie (
        id, mission_id, key, agent_type_id, state, priority, turn, gated, always, allow_failure, remaining, attempt,
        tries, max_tries, rescues, cancel_requested, waits_for)
    SELECT t.sortie, %(mission)s, t.state ->> 'key', t.state ->> 'type', 'pending', 0, 0, true, false, false, 0, 0,
           0, 1, 0, false, ''
    FROM checkpoint_target t
    WHERE t.created
    RETURNING id
)
INSERT INTO missions_brief (sortie_id, spec, alert_silence_s)
SELECT t.sortie, t.state -> 'spec', (t.state -> 'spec' ->> 'alert_silence_s')::float8
FROM checkpoint_target t
WHERE t.created
