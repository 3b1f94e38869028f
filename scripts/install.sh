#!/bin/sh
# Makes .venv and installs the hashed requirements: `scripts/install.sh [dev]`. Does nothing where that is done already.
set -eu
cd "$(dirname "$0")/.."

refuse() {
    printf 'fleet: %s\n' "$1" >&2
    exit 1
}

command -v git >/dev/null || refuse "git was not found. Install it (on Debian: apt-get install git)."
python=${PYTHON:-python3}
command -v "$python" >/dev/null || refuse "$python was not found. Install Python 3.11 or newer, or name one: make PYTHON=python3.12 …"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    refuse "$("$python" --version) is too old: Python 3.11 or newer is needed. Name one: make PYTHON=python3.12 …"

what=${1:-run}
wanted="requirements.txt examples/repo_audit/requirements.txt"
[ "$what" = dev ] && wanted="$wanted requirements-dev.txt"
stamp=".venv/.fleet-$what"
# shellcheck disable=SC2086
sum=$(cat $wanted scripts/install.sh | cksum)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ] && exit 0

uv=$(command -v uv) || uv=
needs='import sys; assert sys.version_info >= (3, 11)' # of a .venv that is there: half of one will not do
[ "$uv" ] || needs="$needs; import pip"
if ! .venv/bin/python -c "$needs" 2>/dev/null; then
    [ "$uv" ] || "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        refuse "this Python cannot make a virtual environment (no ensurepip). On Debian: apt-get install python3-venv; or install uv."
    echo "fleet: making .venv with $("$python" --version)" >&2
    rm -rf .venv
    if [ "$uv" ]; then
        uv venv --quiet --python "$python" .venv
    else
        "$python" -m venv .venv
    fi || refuse "no virtual environment could be made: the lines above say why. Is there room on the disk, and is $PWD yours?"
fi
log=.venv/install.log

# Run a command that is silent for long, and say every five seconds how far it is.
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
for file in $wanted; do set -- "$@" -r "$file"; done
echo "fleet: installing $wanted (hashes are checked); this takes a minute or two" >&2
if [ "$uv" ]; then
    with_progress "packages" uv pip install --quiet --python .venv/bin/python --require-hashes "$@"
else
    with_progress "packages" with_pip "$@"
fi || refuse "the requirements could not be installed: the lines above say why. Is there a network? A mirror is named as for every pip: PIP_INDEX_URL (uv: UV_INDEX_URL)."
echo "fleet: compiling" >&2
with_progress "compiling" compile || true
printf '%s\n' "$sum" >"$stamp"
echo "fleet: installed" >&2
