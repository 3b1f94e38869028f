-- For each of these missions: its newest checkpoint, if it has any, and the kind of its last event.
SELECT m.id, newest.created_at, coalesce(newest.ended, 0), coalesce(newest.failed, 0), last_event.kind
FROM unnest(%(missions)s::uuid[]) AS m (id)
LEFT JOIN LATERAL (
    -- OFFSET 0 makes Postgres use the index on missions. To order by id, it might read all checkpoints from the newest.
    SELECT c.created_at, c.ended, c.failed
    FROM (SELECT * FROM checkpoints_checkpoint WHERE missions @> ARRAY[m.id] OFFSET 0) AS c
    ORDER BY c.id DESC LIMIT 1
) AS newest ON true
LEFT JOIN LATERAL (
    SELECT e.kind FROM fleet_event e WHERE e.scope = m.id ORDER BY e.xid DESC, e.id DESC LIMIT 1
) AS last_event ON true
