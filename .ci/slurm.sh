#!/usr/bin/env bash
# Installs what tests/slow/test_slurm.py starts, Debian's slurm-wlm and munge, where it is not there yet.
set -euo pipefail
PATH+=:/usr/sbin:/sbin

missing=()
for program in munged slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || missing+=("$program")
done
if ((${#missing[@]} == 0)); then
    exit 0
fi
if ((EUID != 0)); then
    echo "not found: ${missing[*]}; only root can install slurm-wlm and munge, so the trials on Slurm will be skipped" >&2
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "error: not found: ${missing[*]}, and no apt-get either; install Slurm and munge as this system does it" >&2
    exit 1
fi
apt-get update --quiet
DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends slurm-wlm munge
