-- After a backup was restored: none of its nodes is up on this database. Their boot ids are cleared: a node ends the
-- processes that an earlier node of its name and boot left behind, but a pid in a backup may belong to another fleet that
-- still runs on this host.
WITH nodes_left AS (
    UPDATE agents_node SET up = false, boot = '' FROM (SELECT id, up FROM agents_node) before
    WHERE before.id = agents_node.id
    RETURNING agents_node.id, agents_node.name, before.up AS was_up
)
INSERT INTO fleet_event (kind, subject, data)
SELECT 'node.down', id, jsonb_build_object('name', name) FROM nodes_left WHERE was_up;
