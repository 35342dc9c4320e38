# Sourced by the scripts: makes or finds a virtual environment, and installs the package when it has changed.
# Usage: . scripts/environment.sh [EXTRA]       an active virtual environment is used as it is found
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${VIRTUAL_ENV:-}" ]; then
    python="${PYTHON:-python3}"
    if ! command -v "$python" >/dev/null; then
        echo "Python 3.10 or newer is needed and '$python' was not found; install it or set PYTHON" >&2
        exit 2
    fi
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        echo "Python 3.10 or newer is needed, '$python' is $("$python" --version 2>&1)" >&2
        exit 2
    }
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
fi

# The stamp holds what was installed: another pyproject.toml or another extra installs again, else nothing is done.
extra="${1:-}"
stamp="$VIRTUAL_ENV/.perception_batch_installed"
wanted="$(cksum < pyproject.toml) $PWD $extra"
if ! grep -qxF -- "$wanted" "$stamp" 2>/dev/null; then
    echo "installing perception_batch${extra:+ with the extra '$extra'} into $VIRTUAL_ENV (a few minutes the first time)" >&2
    python -m pip install --quiet --disable-pip-version-check -e ".${extra:+[$extra]}"
    echo "$wanted" >> "$stamp"
fi
