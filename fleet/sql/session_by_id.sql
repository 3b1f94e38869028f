-- A session that has not ended, with the columns of its user that the permission checks need.
SELECT s.id, s.user_id, u.username, u.is_active, u.is_superuser, a.role,
       ARRAY(SELECT g.group_id FROM auth_user_groups g WHERE g.user_id = u.id) AS teams
FROM fleet_session s
JOIN auth_user u ON u.id = s.user_id
LEFT JOIN fleet_account a ON a.user_id = u.id
WHERE s.id = %(session)s AND s.ended_at IS NULL
