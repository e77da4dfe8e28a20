#!/usr/bin/env bash
# Installs what tests/slow/test_report.py opens pages with, Debian's chromium, where no Chromium or Chrome is there yet.
set -euo pipefail

for program in chromium chromium-browser google-chrome; do
    if command -v "$program" >/dev/null; then
        exit 0
    fi
done
if ((EUID != 0)); then
    echo "no Chromium found; only root can install it, so the trials of the report in a browser will be skipped" >&2
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "error: no Chromium found, and no apt-get either; install one as this system does it" >&2
    exit 1
fi
apt-get update --quiet
DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends chromium
