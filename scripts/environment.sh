# Sourced by scripts/start and scripts/test: makes .venv and installs kafkapy into it, once per pyproject.toml and what is
# compiled (where there is a compiler).

find_python() {
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "kafkapy needs Python 3.11 or newer; none found (set PYTHON=/path/to/python)" >&2
    exit 1
}

# environment EXTRA: an editable install with that extra ("" for none)
environment() {
    python=$(find_python) || exit 1
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    stamp=".venv/installed${1:+-$1}"
    if [ ! -f "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ kafkapy/records/_passing.c -nt "$stamp" ]; then
        echo "installing kafkapy into .venv …" >&2
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".${1:+[$1]}" >&2
        touch "$stamp"
    fi
}
