-- Queued sorties beyond the limit of their agent type, which was set or lowered after they were queued: the least
-- urgent ones. Running sorties are not affected.
WITH types AS MATERIALIZED (
    SELECT t.name,
           t.max_running - (SELECT count(*) FROM missions_sortie o
                        WHERE o.agent_type_id = t.name AND o.state = 'running') AS room
    FROM agents_agenttype t
    WHERE t.max_running > 0
)
SELECT queued.id
FROM types CROSS JOIN LATERAL (
    SELECT s.id FROM missions_sortie s
    WHERE s.agent_type_id = types.name AND s.state = 'queued'
    ORDER BY s.priority DESC, s.turn, s.id
    OFFSET greatest(types.room, 0)
) AS queued
