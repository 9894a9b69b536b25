#!/bin/sh
# Installs mms-regions into a virtual environment: the one list of steps of Dockerfile and apptainer.def.
#   sh jobs/install-image.sh PREFIX [TORCH_INDEX]      in the root of the sources
# TORCH_INDEX: the package index of torch alone, such as https://download.pytorch.org/whl/cpu; else the usual one.
set -eu
prefix=$1
torch_index=${2:-}

into_prefix() {
    python3 -m pip --python "$prefix/bin/python" install --no-cache-dir --no-compile --disable-pip-version-check \
        --root-user-action ignore --quiet --constraint constraints.txt "$@"
}

python3 -m venv --without-pip "$prefix"
if [ -n "$torch_index" ]; then
    into_prefix --no-deps --index-url "$torch_index" torch
fi
into_prefix '.[tplot]'

# A fifth of the size: what is there to test packages, or to compile against torch.
packages=$("$prefix/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
rm -rf "$packages/torch/include" "$packages/torch/test"
find "$packages/torch/bin" -type f ! -name torch_shm_manager -delete
# astropy and bottleneck import theirs.
find "$packages" -depth -type d -name tests ! -path '*/astropy/tests' ! -path '*/bottleneck/tests' -exec rm -rf {} \;

# Compiled here, and never checked against the sources: nobody who runs the image may write beside them, so that each
# start would compile them all again. Left out is what only torch.compile and training need, nearly half of it all, and
# a file of torch for newer Pythons.
rare='/(mpmath|networkx|setuptools|sympy|torchgen)/|/torch/(_dynamo|_inductor|onnx|testing)/|py312_intrinsics'
"$prefix/bin/python" -m compileall -q -j 0 -x "$rare" --invalidation-mode unchecked-hash "$packages"
