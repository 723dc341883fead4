#!/usr/bin/env bash
# Installs TensorRT's Python bindings, without its libraries, in the version of the libraries that the image has.
#
#   tensorrt_bindings.sh VENV
set -euo pipefail
venv=$1
library=$(find /usr/lib /usr/local -name 'libnvinfer.so.*.*.*' -print -quit)
if [[ -z $library ]]; then
    echo "this image has no TensorRT: nothing to bind to, engines cannot be built in it"
    exit 0
fi
version=${library##*.so.}
cuda=${CUDA_VERSION:?the image does not tell its CUDA version}
python3 -m pip --python "$venv/bin/python" install --no-deps "tensorrt-cu${cuda%%.*}-bindings==$version.*"
python3 -m pip --python "$venv/bin/python" install "cuda-python==${cuda%%.*}.*"
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
ln -s tensorrt_bindings "$packages/tensorrt" # the name that the package has where it brings its libraries
