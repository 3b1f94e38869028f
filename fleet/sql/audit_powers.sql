-- Whether the trail is there, and what this session may become: a superuser, or the trail's owner.
SELECT to_regnamespace('fleet_audit') IS NOT NULL,
       (SELECT rolsuper FROM pg_roles WHERE rolname = session_user),
       EXISTS (
           SELECT 1 FROM pg_namespace
           WHERE nspname = 'fleet_audit' AND pg_has_role(current_user, nspowner, 'USAGE')
       )
