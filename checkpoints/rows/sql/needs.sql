-- Give the restored sorties exactly the needs that they have in the checkpoint.
WITH edge AS (
    SELECT t.sortie, u.id AS upstream, need ->> 1 AS name
    FROM checkpoint_target t
    CROSS JOIN LATERAL jsonb_array_elements(t.state -> 'needs') AS need
    JOIN missions_sortie u ON u.mission_id = %(mission)s AND u.key = need ->> 0
), removed AS (
    DELETE FROM missions_need n USING checkpoint_target t
    WHERE n.sortie_id = t.sortie
      AND NOT EXISTS (
          SELECT FROM edge
          WHERE edge.sortie = n.sortie_id AND edge.upstream = n.upstream_id AND edge.name = n.name)
)
INSERT INTO missions_need (sortie_id, upstream_id, name)
SELECT edge.sortie, edge.upstream, edge.name FROM edge
WHERE NOT EXISTS (SELECT FROM missions_need n WHERE n.sortie_id = edge.sortie AND n.upstream_id = edge.upstream)
