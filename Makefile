# Every target sets up what it needs, given python3 (3.11 or newer) and make. Start with `make demo`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CORES ?= $(shell nproc 2>/dev/null || echo 2)
# Distribute tests to processes by the groups of tests/conftest.py, in their order.
SHARED_OUT := --dist loadfile --no-loadscope-reorder
# Everything else in a checkout is the user's: videos, shards, results.
SPELT := *.md *.yml *.yaml *.cff *.toml Makefile Snakefile .ci .devcontainer .github \
	atw benchmarks docs envs examples profiles snakemake_logger_plugin_atw tests workflow
# Find the environment's commands first, as after `source .venv/bin/activate`.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test test-slow test-slurm gpu-check coverage check docs format help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

demo: $(READY) ## the whole pipeline on the demo dataset: results/demo/split1/fused.json and report.html
	atw run --cores $(CORES) results/demo/split1/fused.json results/demo/split1/report.html

test: $(READY) check ## format, lint, types and all quick tests
	pytest --numprocesses $(CORES) $(SHARED_OUT)

test-slow: $(READY) ## the slow tests: accuracy of the demo, kills and resumption, Ray nodes, Slurm, browser
	pytest --numprocesses 2 $(SHARED_OUT) --durations 20 tests/slow # more processes would disturb the tests that kill at set moments

test-slurm: $(READY) ## only the demo on a Slurm of its own; `.ci/install.sh slurm` installs it on Debian
	pytest tests/slow/test_slurm.py

gpu-check: $(READY) ## first contact with a GPU, in ten minutes: does everything work on it, and how fast? build/gpu-check/
	python -m benchmarks.gpu_check

coverage: $(READY) ## lines and branches that the quick tests run, in their own processes; compiled kernels count as unused
	pytest --numprocesses $(CORES) $(SHARED_OUT) --cov

check: $(READY) docs ## format, lint, types, spelling and the manual's links
	ruff format --check .
	ruff check .
	mypy
	codespell $(SPELT)
	snakefmt --check Snakefile workflow
	snakemake --lint

docs: $(READY) ## the manual as a site in build/site; a broken link is an error
	zensical build --strict --config-file mkdocs.yml

format: $(READY) ## rewrite the sources in the project's format
	ruff format .
	ruff check --fix .
	snakefmt Snakefile workflow

$(READY): envs/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement envs/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(READY)
