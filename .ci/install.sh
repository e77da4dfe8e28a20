#!/usr/bin/env bash
# Install Debian's packages of programs that some tests start, if they are missing:
#   rar       bsdtar and unar, which unpack RAR (tests/unit)
#   slurm     Slurm and munge (tests/slow/test_slurm.py)
#   chromium  a browser, unless there is Chromium or Chrome (tests/slow/test_report.py)
set -euo pipefail
PATH+=:/usr/sbin:/sbin

packages=()
# need PACKAGE PROGRAM...: one of the programs will do
need() {
    local program
    for program in "${@:2}"; do
        if command -v "$program" >/dev/null; then
            return
        fi
    done
    packages+=("$1")
}
for group in "$@"; do
    case $group in
        rar) need libarchive-tools bsdtar && need unar unar ;;
        slurm) need munge munged && need slurm-wlm slurmctld && need slurm-wlm slurmd && need slurm-wlm sbatch ;;
        chromium) need chromium chromium chromium-browser google-chrome ;;
        *)
            echo "error: $0 $group: give rar, slurm or chromium" >&2
            exit 2
            ;;
    esac
done
if ((${#packages[@]} == 0)); then
    exit 0
fi
if ((EUID != 0)); then
    echo "missing: ${packages[*]}; only root can install them, so the tests that need them will be skipped" >&2
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "error: missing: ${packages[*]}, and there is no apt-get; install them as this system does it" >&2
    exit 1
fi
apt-get update --quiet
DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "${packages[@]}"
