-- Give each free lane to the sortie that is next: the most urgent one that waits for a merge into its branch. That
-- sortie becomes queued, or ready if it is under a limit; if it does not start within a minute, the lane is free again.
-- A sortie that changed files which another one has reserved waits until that one waits too, or has ended, and is
-- merged after it. It keeps its reservations while it waits, so these need no admission. Only lanes of the branches of
-- `sorties` are assigned; NULL: all lanes. lock_lanes.sql has locked them.
WITH branches AS (
    SELECT DISTINCT w.repository, w.branch
    FROM missions_sortie s JOIN missions_workspace w ON w.mission_id = s.mission_id
    WHERE CASE WHEN %(sorties)s::uuid[] IS NULL THEN s.state = 'waiting' AND s.waits_on = 'merge'
               ELSE s.id = ANY (%(sorties)s) END
), free AS (
    SELECT l.id, l.repository, l.branch
    FROM missions_lane l JOIN branches USING (repository, branch)
    LEFT JOIN missions_sortie holder ON holder.id = l.sortie_id
    WHERE holder.id IS NULL
       OR NOT (CASE WHEN l.attempt IS NOT NULL THEN holder.state = 'running' AND holder.attempt = l.attempt
                    ELSE holder.state = 'running' OR holder.state IN ('ready', 'queued')
                         AND holder.ready_at > clock_timestamp() - interval '1 minute' END)
), next AS (
    SELECT free.id AS lane, first.id AS sortie
    FROM free CROSS JOIN LATERAL (
        SELECT s.id
        FROM missions_workspace w
        JOIN missions_mission m ON m.id = w.mission_id AND m.state = 'running'
        JOIN missions_sortie s ON s.mission_id = m.id
        WHERE w.repository = free.repository AND w.branch = free.branch
          AND s.state = 'waiting' AND s.waits_on = 'merge'
          AND NOT EXISTS (SELECT FROM missions_sortie o WHERE o.id = s.blocked_by_id AND o.state IN ('queued', 'running'))
        ORDER BY s.blocked_by_id IS NOT NULL, s.priority DESC, s.turn, s.id
        LIMIT 1
        FOR NO KEY UPDATE OF s SKIP LOCKED
    ) AS first
), granted AS (
    UPDATE missions_sortie s
    SET state = CASE WHEN s.concurrency_key IS NOT NULL OR m.max_running > 0 OR t.max_running > 0 THEN 'ready' ELSE 'queued' END,
        waits_on = '', waits_for = '', blocked_by_id = NULL, ready_at = clock_timestamp()
    FROM next, missions_mission m, agents_agenttype t
    WHERE s.id = next.sortie AND m.id = s.mission_id AND t.name = s.agent_type_id
    RETURNING s.id, s.mission_id, s.agent_type_id, s.state
), assigned AS (
    UPDATE missions_lane l SET sortie_id = next.sortie, attempt = NULL FROM next WHERE l.id = next.lane
), events AS (
    INSERT INTO fleet_event (kind, scope, subject, data)
    SELECT 'sortie.' || state, mission_id, id, '{"from": "waiting", "why": "the lane of its branch is free"}' FROM granted
)
SELECT false AS settled, id, mission_id, agent_type_id, state, false AS bad FROM granted
