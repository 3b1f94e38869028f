-- Whether the trail exists, whether this session's user is a superuser, and whether its role may become the trail's
-- owner.
SELECT to_regnamespace('fleet_audit') IS NOT NULL,
       (SELECT rolsuper FROM pg_roles WHERE rolname = session_user),
       EXISTS (
           SELECT 1 FROM pg_namespace
           WHERE nspname = 'fleet_audit' AND pg_has_role(current_user, nspowner, 'USAGE')
       )
