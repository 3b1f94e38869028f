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
wanted="requirements.txt"
[ "$what" = dev ] && wanted="requirements.txt requirements-dev.txt"
stamp=".venv/.fleet-$what"
# shellcheck disable=SC2086
sum=$(cat $wanted scripts/install.sh | cksum)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ] && exit 0

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null; then
    echo "fleet: making .venv with $("$python" --version)" >&2
    if command -v uv >/dev/null; then
        uv venv --quiet --python "$python" .venv
    else
        "$python" -c 'import ensurepip' 2>/dev/null ||
            refuse "this Python cannot make a virtual environment (no ensurepip). On Debian: apt-get install python3-venv; or install uv."
        "$python" -m venv .venv
    fi
fi
set --
for file in $wanted; do set -- "$@" -r "$file"; done
echo "fleet: installing $wanted (hashes are checked)" >&2
if command -v uv >/dev/null; then
    uv pip install --quiet --python .venv/bin/python --require-hashes "$@"
else
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes "$@"
fi
.venv/bin/python -m compileall -q fleet agents missions checkpoints .venv/lib >/dev/null 2>&1 || true
printf '%s\n' "$sum" >"$stamp"
