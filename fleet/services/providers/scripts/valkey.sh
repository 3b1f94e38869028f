#!/bin/sh
# Runs Valkey, or else Redis, in a container: `valkey.sh`. It stores nothing, because it only carries hints.
# `valkey.sh healthy` asks the running server.
#
# REDIS_PASSWORD   required; or REDIS_PASSWORD_FILE names a file that contains it
# VALKEY_PORT      6379
set -eu
port=${VALKEY_PORT:-6379}

fail() {
    printf 'valkey: %s\n' "$1" >&2
    exit 1
}

file=${REDIS_PASSWORD_FILE:-}
password=${REDIS_PASSWORD:-}
if [ -n "$file" ] && [ -s "$file" ]; then
    password=$(cat "$file") || fail "REDIS_PASSWORD_FILE: $file cannot be read by the user $(id -u)."
fi
[ -n "$password" ] || fail "REDIS_PASSWORD is not set."

if [ "${1:-}" = healthy ]; then
    client=$(command -v valkey-cli || command -v redis-cli) || fail "this image has neither valkey-cli nor redis-cli."
    [ "$(REDISCLI_AUTH=$password "$client" -h 127.0.0.1 -p "$port" ping)" = PONG ]
    exit
fi
server=$(command -v valkey-server || command -v redis-server) ||
    fail "this image has neither valkey-server nor redis-server."

# The configuration goes through standard input, because every process can read the arguments of others.
quoted=$(printf %s "$password" | sed 's/[\\"]/\\&/g')
exec "$server" - <<END
bind *
port $port
requirepass "$quoted"
databases 64
save ""
appendonly no
dir /tmp
maxmemory-policy noeviction
END
