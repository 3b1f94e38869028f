-- The figures that limit the fleet's connections to Postgres: max_connections; those reserved for superusers and for
-- roles with pg_use_reserved_connections (Postgres 16 and newer); those in use in other databases; and the smaller limit
-- of this role and this database, if any.
SELECT current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0),
       (SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND datname IS DISTINCT FROM current_database())::int,
       least(
           (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
           (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()))
