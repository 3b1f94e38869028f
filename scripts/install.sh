#!/bin/sh
# Creates .venv, installs the hash-pinned requirements and the program `fleet`: `scripts/install.sh [dev | docs]`.
# Does nothing if that is done.
set -eu
cd "$(dirname "$0")/.."

fail() {
    printf 'fleet: %s\n' "$1" >&2
    exit 1
}

command -v git >/dev/null || fail "git was not found. Install it (on Debian: apt-get install git)."
python=${PYTHON:-python3}
command -v "$python" >/dev/null || fail "$python was not found. Install Python 3.11 or newer, or select another one: make PYTHON=python3.12 …"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old: Python 3.11 or newer is required. Select another one: make PYTHON=python3.12 …"

kind=${1:-run}
files="requirements.txt examples/repo_audit/requirements.txt"
case $kind in
dev) files="$files requirements-dev.txt" ;;
docs) files="$files requirements-docs.txt" ;;
esac
stamp=".venv/.fleet-$kind"
# shellcheck disable=SC2086
sum=$(cat $files scripts/install.sh | cksum)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ] && exit 0

uv=$(command -v uv) || uv=
usable='import sys; assert sys.version_info >= (3, 11)' # fails in an incomplete .venv, which is then created again
[ "$uv" ] || usable="$usable; import pip"
if ! .venv/bin/python -c "$usable" 2>/dev/null; then
    [ "$uv" ] || "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "this Python cannot create a virtual environment (no ensurepip). Install python3-venv (on Debian: apt-get install python3-venv) or uv."
    echo "fleet: creating .venv with $("$python" --version)" >&2
    rm -rf .venv
    if [ "$uv" ]; then
        uv venv --quiet --python "$python" .venv
    else
        "$python" -m venv .venv
    fi || fail "the virtual environment could not be created for the reason given above. Check the free disk space and the owner of $PWD."
fi
log=.venv/install.log

# Run a command that prints nothing for a long time, and report its progress every five seconds.
with_progress() {
    step=$1
    shift
    (
        seconds=0
        while sleep 5 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
            seconds=$((seconds + 5))
            found=$(grep -c '^Collecting ' "$log" 2>/dev/null) || found=0
            set -- .venv/lib/python*/site-packages/*.dist-info
            [ -e "$1" ] || shift
            state="$# installed"
            [ "$found" -gt "$#" ] && state="$found found, $state"
            echo "fleet: $step: $state, $seconds s" >&2
        done
    ) &
    ticker=$!
    code=0
    "$@" || code=$?
    kill "$ticker" 2>/dev/null || true
    return "$code"
}

with_pip() {
    mkdir -p .venv
    .venv/bin/python -m pip install --progress-bar off --disable-pip-version-check --require-hashes "$@" >"$log"
}

compile() {
    .venv/bin/python -m compileall -q fleet agents missions checkpoints examples .venv/lib >/dev/null 2>&1
}

set --
for file in $files; do set -- "$@" -r "$file"; done
echo "fleet: installing $files (hashes are checked); this takes a minute or two" >&2
if [ "$uv" ]; then
    with_progress "packages" uv pip install --quiet --python .venv/bin/python --require-hashes "$@"
else
    with_progress "packages" with_pip "$@"
fi || fail "the requirements could not be installed for the reason given above. Check the network. To use a mirror, set PIP_INDEX_URL (for uv: UV_INDEX_URL)."
echo "fleet: compiling" >&2
with_progress "compiling" compile || true
mkdir -p .venv/bin
ln -sf ../../manage.py .venv/bin/fleet
printf '%s\n' "$sum" >"$stamp"
echo "fleet: installed" >&2
