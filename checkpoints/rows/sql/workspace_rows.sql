-- The workspace parts of a mission's sorties, where there are any: two objects each, like those of sorties.sql.
-- Changes that nothing uses (`kept`) are left out. A request of an attempt ends with the attempt, so it is only kept.
WITH sortie AS (
    SELECT id, key FROM missions_sortie WHERE mission_id = %(mission)s
), change AS (
    SELECT c.sortie_id,
           jsonb_agg(jsonb_build_object(
               'state', c.state, 'base', c.base, 'commit', c.commit, 'landed', c.landed, 'onto', c.onto,
               'no_change', c.no_change, 'files', c.files, 'number_of_files', c.number_of_files,
               'lines_added', c.lines_added, 'lines_removed', c.lines_removed, 'added_sorties', c.added_sorties,
               'result', c.result, 'exit_code', c.exit_code) ORDER BY c.attempt) AS state,
           jsonb_agg(jsonb_build_object('attempt', c.attempt, 'created_at', c.created_at) ORDER BY c.attempt) AS kept
    FROM missions_change c JOIN sortie ON sortie.id = c.sortie_id
    WHERE c.state <> 'kept'
    GROUP BY c.sortie_id
), conflict AS (
    SELECT f.sortie_id,
           jsonb_agg(jsonb_build_object(
               'kind', f.kind, 'others', f.others, 'files', f.files, 'onto', f.onto, 'tree', f.tree, 'text', f.text,
               'outcome', f.outcome, 'by', f.by, 'closed', f.closed_at IS NOT NULL)
               ORDER BY f.created_at, f.kind, f.others::text, f.files::text) AS state,
           jsonb_agg(jsonb_build_object(
               'id', f.id, 'attempt', f.attempt, 'created_at', f.created_at, 'closed_at', f.closed_at)
               ORDER BY f.created_at, f.kind, f.others::text, f.files::text) AS kept
    FROM missions_conflict f JOIN sortie ON sortie.id = f.sortie_id
    GROUP BY f.sortie_id
), reservation AS (
    SELECT r.sortie_id,
           jsonb_agg(jsonb_build_object(
               'pattern', r.pattern, 'shared', r.shared, 'released', r.released_at IS NOT NULL)
               ORDER BY r.pattern COLLATE "C", r.shared) FILTER (WHERE r.attempt IS NULL) AS state,
           jsonb_agg(jsonb_build_object('created_at', r.created_at, 'released_at', r.released_at)
               ORDER BY r.pattern COLLATE "C", r.shared) FILTER (WHERE r.attempt IS NULL) AS kept,
           jsonb_agg(jsonb_build_object(
               'attempt', r.attempt, 'pattern', r.pattern, 'shared', r.shared, 'until', r.until,
               'released_at', r.released_at) ORDER BY r.created_at, r.id) FILTER (WHERE r.attempt IS NOT NULL) AS requests
    FROM missions_reservation r JOIN sortie ON sortie.id = r.sortie_id
    GROUP BY r.sortie_id
)
SELECT sortie.key,
       CASE WHEN coalesce(change.state, conflict.state, reservation.state) IS NOT NULL THEN
           jsonb_build_object(
               'changes', coalesce(change.state, '[]'), 'conflicts', coalesce(conflict.state, '[]'),
               'reservations', coalesce(reservation.state, '[]'))::text END,
       jsonb_build_object(
           'changes', coalesce(change.kept, '[]'), 'conflicts', coalesce(conflict.kept, '[]'),
           'reservations', coalesce(reservation.kept, '[]'), 'requests', coalesce(reservation.requests, '[]'),
           'uncommitted', CASE WHEN w.commit IS NOT NULL THEN
               jsonb_build_object('base', w.base, 'commit', w.commit) END)::text
FROM sortie
LEFT JOIN change ON change.sortie_id = sortie.id
LEFT JOIN conflict ON conflict.sortie_id = sortie.id
LEFT JOIN reservation ON reservation.sortie_id = sortie.id
LEFT JOIN missions_savedwork w ON w.sortie_id = sortie.id
WHERE change.sortie_id IS NOT NULL OR conflict.sortie_id IS NOT NULL OR reservation.sortie_id IS NOT NULL
   OR w.sortie_id IS NOT NULL
