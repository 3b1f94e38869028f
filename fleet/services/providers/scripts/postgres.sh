#!/bin/sh
# Runs Postgres in a container, in any image that has it and as any user but root: `postgres.sh`. The first start creates
# the cluster and the database `fleet` of the role `fleet_owner`, which cannot log in. `postgres.sh healthy` asks the
# running server whether it accepts connections.
#
# POSTGRES_OWNER_PASSWORD   the password of the superuser `postgres`, with which migrations log in; or …_FILE names a file
# POSTGRES_PASSWORD         if set, the password of the application's role `fleet`, which the first start then creates
# PGDATA, PGPORT            the folder of the cluster, and the port: /var/lib/postgresql/fleet, 5432
# POSTGRES_OPTIONS          further options of the server, such as "-c shared_buffers=1GB"
set -eu
umask 077
data=${PGDATA:-/var/lib/postgresql/fleet}
port=${PGPORT:-5432}

fail() {
    printf 'postgres: %s\n' "$1" >&2
    exit 1
}

# The content of the file that NAME_FILE names, or else the value of NAME, with its quotes doubled for SQL.
secret() {
    eval "file=\${$1_FILE:-} value=\${$1:-}"
    if [ -n "$file" ] && [ -s "$file" ]; then
        value=$(cat "$file") || fail "$1_FILE: $file cannot be read by the user $(id -u)."
    fi
    printf %s "$value" | sed "s/'/''/g"
}

if ! command -v initdb >/dev/null; then # Debian keeps each version in its own folder
    for folder in /usr/lib/postgresql/*/bin; do PATH="$folder:$PATH"; done
fi
command -v initdb >/dev/null || fail "this image has no initdb."

if [ "${1:-}" = healthy ]; then
    exec pg_isready -q -h 127.0.0.1 -p "$port"
fi
[ "$(id -u)" != 0 ] || fail "Postgres refuses to run as root. Set the user of the container."

if [ ! -s "$data/PG_VERSION" ]; then
    owner=$(secret POSTGRES_OWNER_PASSWORD)
    application=$(secret POSTGRES_PASSWORD)
    [ -n "$owner" ] || fail "POSTGRES_OWNER_PASSWORD is not set."
    draft="$data.new" # renamed once it is complete
    rm -rf "$draft"
    mkdir -p "$draft" || fail "$(dirname "$data") is not writable by the user $(id -u). Change the owner of its volume."
    # `trust` is safe: nothing listens yet.
    initdb -D "$draft" --username=postgres --auth=trust --encoding=UTF8 --no-locale >"$draft.log" 2>&1 ||
        fail "initdb failed: $(cat "$draft.log")"
    {
        printf "ALTER ROLE postgres PASSWORD '%s'\n" "$owner"
        echo "CREATE ROLE fleet_owner NOLOGIN"
        [ -z "$application" ] || printf "CREATE ROLE fleet LOGIN PASSWORD '%s'\n" "$application"
        echo "CREATE DATABASE fleet OWNER fleet_owner"
    } | postgres --single -D "$draft" postgres >"$draft.log" 2>&1 || fail "the roles could not be created."
    # In single-user mode a failed statement does not change the exit code. The log may contain a password.
    ! grep -Eq '\b(ERROR|FATAL|PANIC):' "$draft.log" || fail "the roles could not be created."
    echo "host all all all scram-sha-256" >"$draft/pg_hba.conf"
    rm -f "$draft.log"
    mv "$draft" "$data"
    echo "postgres: created the cluster in $data" >&2
fi

data_version=$(cat "$data/PG_VERSION")
program_version=$(postgres --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
[ "$data_version" = "$program_version" ] ||
    fail "the data in $data was created by Postgres $data_version, but this image has Postgres $program_version. Use an image with Postgres $data_version, or dump and restore the data (docs/containers.md)."

# shellcheck disable=SC2086
exec postgres -D "$data" -c port="$port" -c listen_addresses='*' -c unix_socket_directories='' \
    -c max_connections=400 -c jit=off -c log_min_error_statement=panic -c log_parameter_max_length_on_error=0 \
    ${POSTGRES_OPTIONS:-}
