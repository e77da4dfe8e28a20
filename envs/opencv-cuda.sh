#!/usr/bin/env bash
# Build OpenCV with CUDA for the flow backend `opencv-cuda`, from pip's source distribution.
set -euo pipefail

readonly PACKAGE=opencv-contrib-python-headless
readonly VERSION=4.14.0.94
# Headers and libraries that OpenCV's CUDA modules link with; TV-L1 itself does not call them.
readonly NPP=nvidia-npp==13.0.1.2
readonly CUDA_MAJOR=13
readonly MODULES=core,imgproc,imgcodecs,videoio,video,calib3d,features2d,flann,ximgproc,optflow,cudev,cudaarithm,cudawarping,cudaimgproc,cudaoptflow,python3

usage() {
    cat <<EOF
usage: ${0##*/} CAPABILITY[,CAPABILITY...] [FOLDER]

Writes a wheel of $PACKAGE $VERSION with CUDA, and the wheel of NVIDIA's NPP that it needs, to FOLDER
(default: dist). CAPABILITY is the compute capability of the GPUs to build for: 8.0 is A100, 8.9 is L4 and RTX 40, 9.0
is H100 and H200. Each makes the build longer; one took 49 minutes on one core.

Needed: CUDA toolkit $CUDA_MAJOR in CUDA_HOME (default /usr/local/cuda), a C++ compiler, CMake, about 5 GB in TMPDIR, and
access to the package index that pip is set up for. PYTHON names the interpreter to build with (default python3).
EOF
}

fail() {
    echo "error: $1" >&2
    exit 2
}

# Link toolkit and NPP into a new folder; the toolkit itself is not changed.
merge_toolkit() { # toolkit npp merged
    local part
    mkdir -p "$3/include" "$3/lib64"
    for part in "$1"/*; do
        case ${part##*/} in
        include | lib | lib64) ;;
        *) ln -s "$part" "$3/" ;;
        esac
    done
    ln -s "$1"/include/* "$3/include/"
    ln -s "$1"/lib64/* "$3/lib64/"
    ln -sf "$2"/include/* "$3/include/"
    for part in "$2"/lib/lib*.so.*; do
        ln -sf "$part" "$3/lib64/"
        ln -sf "$part" "$3/lib64/$(basename "${part%%.so.*}").so"
    done
}

build() { # merged-toolkit capabilities python folder
    local options=(
        -DPYTHON3_LIMITED_API=ON
        "-DBUILD_LIST=$MODULES"
        -DWITH_CUDA=ON
        "-DCUDA_TOOLKIT_ROOT_DIR=$1"
        "-DCUDA_ARCH_BIN=${2//,/;}"
        -DCUDA_ARCH_PTX=
        -DWITH_CUBLAS=OFF
        -DWITH_CUFFT=OFF
        -DWITH_NVCUVID=OFF
        -DWITH_NVCUVENC=OFF
        # Find NPP where pip installs it.
        "-DCMAKE_INSTALL_RPATH=\$ORIGIN/../nvidia/cu$CUDA_MAJOR/lib"
    )
    # pip's cache ignores the build options and could return a wheel that was built with others.
    MAKEFLAGS="-j$(nproc)" CMAKE_ARGS="${options[*]}" "$3" -m pip wheel --verbose --no-cache-dir --no-deps --no-binary "$PACKAGE" \
        --wheel-dir "$4" "$PACKAGE==$VERSION"
}

main() {
    if [[ ${1:-} == -h || ${1:-} == --help ]]; then
        usage
        exit 0
    fi
    if (($# < 1 || $# > 2)); then
        usage >&2
        exit 2
    fi
    local capabilities=$1 folder=${2:-dist} toolkit=${CUDA_HOME:-/usr/local/cuda} python=${PYTHON:-python3}
    local release known capability

    [[ $capabilities =~ ^[0-9]+\.[0-9](,[0-9]+\.[0-9])*$ ]] ||
        fail "'$capabilities' is no list of compute capabilities; write 9.0 or 8.0,9.0"
    [[ -x $toolkit/bin/nvcc ]] || fail "no nvcc in $toolkit/bin; install CUDA toolkit $CUDA_MAJOR, or set CUDA_HOME to it"
    release=$("$toolkit/bin/nvcc" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    [[ $release == "$CUDA_MAJOR" ]] || fail "$toolkit is CUDA ${release:-of no known release}; set CUDA_HOME to CUDA $CUDA_MAJOR"
    known=$("$toolkit/bin/nvcc" --list-gpu-arch)
    for capability in ${capabilities//,/ }; do
        grep -qx "compute_${capability/./}" <<<"$known" ||
            fail "this nvcc does not know compute capability $capability; it knows ${known//$'\n'/ }"
    done
    command -v "$python" >/dev/null || fail "no interpreter $python; set PYTHON"

    mkdir -p "$folder"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    "$python" -m pip download --no-deps --dest "$folder" "$NPP"
    "$python" -m pip install --no-deps --no-index --find-links "$folder" --target "$work/npp" "$NPP"
    merge_toolkit "$(realpath "$toolkit")" "$work/npp/nvidia/cu$CUDA_MAJOR" "$work/toolkit"
    build "$work/toolkit" "$capabilities" "$python" "$folder"
    echo "Install with: pip install --no-deps --force-reinstall $folder/opencv_*.whl $folder/nvidia_npp-*.whl"
    echo "Then look at: atw doctor"
}

main "$@"
