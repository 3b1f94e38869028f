-- Give sorties the workspace parts that they have in a checkpoint, after workspace_clear.sql. If the row is not the
-- captured one, its changes are numbered so that the newest one belongs to the row's newest attempt.
WITH target AS (
    SELECT t.sortie, t.state -> 'workspace' AS state, t.kept -> 'workspace' AS kept, t.changes = '{}' AS unchanged,
           (t.kept ->> 'sortie')::uuid IS DISTINCT FROM t.sortie AS other_row, s.attempt, w.repository, w.branch
    FROM checkpoint_target t
    JOIN missions_sortie s ON s.id = t.sortie
    JOIN missions_workspace w ON w.mission_id = s.mission_id
    WHERE t.kept ? 'workspace'
), changes AS (
    INSERT INTO missions_change (
        id, sortie_id, attempt, state, base, commit, landed, onto, no_change, files, number_of_files, lines_added,
        lines_removed, added_sorties, result, exit_code, created_at)
    SELECT gen_random_uuid(), target.sortie,
           CASE WHEN target.other_row THEN target.attempt - (jsonb_array_length(target.state -> 'changes') - number)
                ELSE (target.kept -> 'changes' -> (number - 1)::int ->> 'attempt')::int END,
           c ->> 'state', c ->> 'base', c ->> 'commit', c ->> 'landed', c ->> 'onto', c ->> 'no_change', c -> 'files',
           (c ->> 'number_of_files')::int, (c ->> 'lines_added')::int, (c ->> 'lines_removed')::int,
           c -> 'added_sorties', c ->> 'result', (c ->> 'exit_code')::int,
           (target.kept -> 'changes' -> (number - 1)::int ->> 'created_at')::timestamptz
    FROM target CROSS JOIN LATERAL jsonb_array_elements(target.state -> 'changes') WITH ORDINALITY AS e (c, number)
    ON CONFLICT (sortie_id, attempt) DO UPDATE SET
        state = excluded.state, base = excluded.base, commit = excluded.commit, landed = excluded.landed,
        onto = excluded.onto, no_change = excluded.no_change, files = excluded.files,
        number_of_files = excluded.number_of_files, lines_added = excluded.lines_added,
        lines_removed = excluded.lines_removed, added_sorties = excluded.added_sorties, result = excluded.result,
        exit_code = excluded.exit_code
), conflicts AS (
    INSERT INTO missions_conflict (
        id, sortie_id, attempt, kind, others, files, onto, tree, text, outcome, by, created_at, closed_at)
    SELECT CASE WHEN target.other_row THEN gen_random_uuid() ELSE (kept.row ->> 'id')::uuid END, target.sortie,
           CASE WHEN NOT target.other_row THEN (kept.row ->> 'attempt')::int END, f ->> 'kind', f -> 'others',
           f -> 'files', f ->> 'onto', f ->> 'tree', f ->> 'text', f ->> 'outcome', f ->> 'by',
           (kept.row ->> 'created_at')::timestamptz, (kept.row ->> 'closed_at')::timestamptz
    FROM target CROSS JOIN LATERAL jsonb_array_elements(target.state -> 'conflicts') WITH ORDINALITY AS e (f, number)
    CROSS JOIN LATERAL (SELECT target.kept -> 'conflicts' -> (number - 1)::int AS row) AS kept
), reservations AS (
    INSERT INTO missions_reservation (
        id, sortie_id, repository, branch, pattern, shared, created_at, released_at)
    SELECT gen_random_uuid(), target.sortie, target.repository, target.branch, r ->> 'pattern',
           (r ->> 'shared')::boolean, (kept.row ->> 'created_at')::timestamptz, (kept.row ->> 'released_at')::timestamptz
    FROM target CROSS JOIN LATERAL jsonb_array_elements(target.state -> 'reservations') WITH ORDINALITY AS e (r, number)
    CROSS JOIN LATERAL (SELECT target.kept -> 'reservations' -> (number - 1)::int AS row) AS kept
)
INSERT INTO missions_savedwork (sortie_id, base, commit)
SELECT sortie, kept -> 'uncommitted' ->> 'base', kept -> 'uncommitted' ->> 'commit'
FROM target
WHERE unchanged AND kept -> 'uncommitted' ? 'commit'
  AND kept -> 'uncommitted' ->> 'commit' <> kept -> 'uncommitted' ->> 'base'
