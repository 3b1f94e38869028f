-- Add needs on new sorties to sorties that have not started. Returns the keys that could not be changed.
WITH edge AS (
    SELECT * FROM unnest(%(new)s::text[], %(later)s::text[]) AS t (new, later)
), locked AS (
    SELECT s.id, s.key FROM missions_sortie s
    WHERE s.mission_id = %(mission)s AND s.state = 'pending' AND s.key IN (SELECT later FROM edge)
    ORDER BY s.id
    FOR NO KEY UPDATE
), inserted AS (
    INSERT INTO missions_need (sortie_id, upstream_id, name)
    SELECT locked.id, added.id, split_part(added.key, '[', 1)
    FROM edge
    JOIN locked ON locked.key = edge.later
    JOIN missions_sortie added ON added.mission_id = %(mission)s AND added.key = edge.new
    RETURNING sortie_id
), counted AS (
    SELECT sortie_id, count(*) AS needs FROM inserted GROUP BY sortie_id
), raised AS (
    UPDATE missions_sortie s SET remaining = s.remaining + counted.needs
    FROM counted
    WHERE s.id = counted.sortie_id
    RETURNING s.id, s.key
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.changed', %(mission)s, raised.id,
           jsonb_build_object('needs', (SELECT jsonb_agg(edge.new ORDER BY edge.new) FROM edge WHERE edge.later = raised.key))
    FROM raised
)
SELECT DISTINCT later FROM edge WHERE later NOT IN (SELECT key FROM raised)
