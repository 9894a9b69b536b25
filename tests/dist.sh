#!/usr/bin/env bash
# Makes what is released, in dist, and tries it as a user would: the metadata are checked, the sdist gives the same wheel,
# and the wheel runs the demonstration in an environment of its own.
# From the environment: PYTHON, with hatchling, whose pip gets the packages as it is configured to; TORCH_INDEX, the
# package index of torch alone.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=$(realpath -s "${PYTHON:-python3}")
work=$(mktemp -d "${TMPDIR:-/tmp}/mms-regions-dist.XXXXXX")
trap 'rm -rf "$work"' EXIT

step() { echo "dist: $* (${SECONDS} s)"; }

stop() {
    echo "$*" >&2
    exit 1
}

environment() { # NAME PACKAGES...: a new one, with the versions of the lock file
    local python=$work/$1/bin/python
    shift
    "$PYTHON" -m venv "${python%/bin/python}"
    "$python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$@"
}

hashes() { # WHEEL: of each file in it, less the list of them
    "$PYTHON" - "$1" <<'CODE'
import hashlib, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    for name in sorted(wheel.namelist()):
        if not name.endswith("/RECORD"):
            print(hashlib.sha256(wheel.read(name)).hexdigest(), name)
CODE
}

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' pipeline/mms_regions/core/version.py)
grep -q "^## $version - 20[0-9][0-9]-[0-9][0-9]-[0-9][0-9]$" CHANGELOG.md ||
    stop "CHANGELOG.md has no section \"## $version - DATE\": close it first."

rm -rf dist
"$PYTHON" -m hatchling build >/dev/null
wheel=dist/mms_regions-$version-py3-none-any.whl sdist=dist/mms_regions-$version.tar.gz
step "made $sdist, $(du -k "$sdist" | cut -f1) kB, and $wheel, $(du -k "$wheel" | cut -f1) kB"

environment twine twine
"$work/twine/bin/python" -m twine check --strict "$sdist" "$wheel" >"$work/twine.log" || stop "$(cat "$work/twine.log")"
step "twine finds nothing in their metadata"

tar -xzf "$sdist" -C "$work"
(cd "$work/mms_regions-$version" && "$PYTHON" -m hatchling build -t wheel >/dev/null)
diff <(hashes "$wheel") <(hashes "$work/mms_regions-$version/$wheel") || stop "The sdist gives another wheel."
step "the sdist gives the same wheel"

if [ -n "${TORCH_INDEX:-}" ]; then environment user --no-deps --index-url "$TORCH_INDEX" torch; fi
environment user "$wheel"
cd "$work"
[ "$(user/bin/mms-regions --version)" = "mms-regions $version" ] || stop "The wheel says another version."
user/bin/mms-regions doctor || [ $? -eq 5 ] || stop "doctor failed in the new environment."
user/bin/mms-regions demo --out demo >demo.log 2>&1 || stop "$(tail -n 20 demo.log)"
grep -h "agree" demo.log || stop "The demonstration says nothing of the truth."
step "installed in a new environment: the demonstration runs"
