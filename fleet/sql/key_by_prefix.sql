-- The key with this prefix, with the columns of its user that the permission checks need.
SELECT k.id, k.prefix, k.digest, k.scopes, k.expires_at, k.used_at, k.revoked_at, k.user_id,
       u.username, u.is_active, u.is_superuser, a.role,
       ARRAY(SELECT g.group_id FROM auth_user_groups g WHERE g.user_id = u.id) AS teams
FROM fleet_key k
JOIN auth_user u ON u.id = k.user_id
LEFT JOIN fleet_account a ON a.user_id = u.id
WHERE k.prefix = %(prefix)s
