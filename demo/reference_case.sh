#!/usr/bin/env bash
# Labels each reference case with the published model: demo/reference_case.sh path/to/mms-regions
set -euo pipefail

mms_regions=$1
reference=${MMS_REGIONS_REFERENCE:-../shared}

if [ ! -d "$reference/reference" ]; then
    echo "Nothing to show yet: synthetic events come with the next release; until then set MMS_REGIONS_REFERENCE to the" \
        "folder that holds reference/ and models/."
    exit 0
fi

out=$(mktemp -d "${TMPDIR:-/tmp}/mms-regions-demo.XXXXXX")
export MMS_REGIONS_MODEL_DIR=$out/models
"$mms_regions" model import "$reference/models/best_model"
for case in "$reference"/reference/*-mms[1-4]; do
    key=$(basename "$case")
    store=$out/$key.zarr
    "$mms_regions" run --store "$store" --data-dir "$case/inputs" --offline --workers 0 \
        --events "${key%-mms*}" --probes "${key##*-mms}"
    "$mms_regions" status "$store"
    "$mms_regions" export "$store" --out "$out/csv"
done
echo "The stores are in $out, the tables in $out/csv. Next, in Python:"
echo "  from mms_regions.store import open_segment; open_segment(\"$store\", \"${key%-mms*}\", ${key##*-mms})"
