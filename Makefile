# Every target does its own set-up from a clean checkout: a virtual environment made by uv, with every hash checked.
.DEFAULT_GOAL := help
.PHONY: help demo test e2e soak again packages pulumi cluster kubernetes check bench fmt lock clean setup

PYTHON ?= python3
WORKERS ?= auto
# Most of what these tests do is wait, on links that are measured: more at a time would disturb them.
E2E_WORKERS ?= 2
BIN := .venv/bin
READY := .venv/.ready
# What pytest ended with: 1 says that every test ran, and some failed; anything else that not all of them ran.
ENDED := .pytest_cache/ended
# A uv that works, else our own: a version manager's shim may be on the path without a uv behind it.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .tools/bin/uv)
OWN_UV := $(filter .tools/bin/uv,$(UV))

help: ## list the targets
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(READY) ## every idea of the system on this machine, with real data, checked; in under a minute
	@$(BIN)/dynamos demo

test: $(READY) ## the project's behaviour, in minutes; networks of testbeds apart
	@mkdir -p .pytest_cache
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not e2e and not testbed and not cluster" \
	    && echo 0 > $(ENDED) || { told=$$?; echo $$told > $(ENDED); exit $$told; }

e2e: $(READY) ## what takes longer: real Pulumi and Ansible, every driver, quick experiments; two at a time
	@command -v pulumi >/dev/null || ! command -v go >/dev/null || $(MAKE) --no-print-directory pulumi \
	    || echo "the Pulumi CLI could not be built: tests with it skip" >&2
	@! command -v go >/dev/null || $(MAKE) --no-print-directory kubernetes \
	    || echo "Kubernetes could not be built: tests with a cluster of their own skip" >&2
	$(BIN)/python -m pytest -n $(E2E_WORKERS) --dist loadgroup --durations=40 -m "(e2e or testbed or cluster) and not soak"

soak: $(READY) ## the same at full scale, and often: whole testbeds of every driver, ten kills, fifty networks at once
	$(BIN)/python -m pytest --durations=40 -m soak

again: $(READY) ## only the tests that failed in make test, one at a time
	@test "$$(cat $(ENDED))" = 1 || { echo "make test did not end with tests that failed, and only that" >&2; exit 1; }
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none -m ""

packages: $(READY) ## install the Debian packages that testbeds with networks need (as root; others are told which)
	$(BIN)/dynamos doctor --fix

pulumi: .tools/pulumi/pulumi ## the Pulumi CLI, built from source where none is installed (six minutes, needs Go)

cluster: $(READY) kubernetes ## a Kubernetes of two nodes on this machine, as root; kubeconfig in .dynamos/cluster; see python -m tests.cluster --help
	$(BIN)/python -m tests.cluster up

kubernetes: .tools/kubernetes/.built ## the programs of such a cluster, built from source (nine minutes the first time, needs Go)

check: $(READY) ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## latency, throughput and memory as ratios to plain DuckDB, and JSON
	$(BIN)/python -m tests.bench

setup: $(READY) ## only the virtual environment, in .venv

fmt: $(READY) ## write the formatter's style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: | $(OWN_UV) ## renew the hashed requirements
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --no-emit-package dynamos --all-extras --group dev pyproject.toml -o requirements/dev.txt
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --extra local --extra charts --extra kubernetes pyproject.toml -o requirements/run.txt
	$(UV) pip compile --quiet --no-deps --generate-hashes --no-emit-index-url --no-header requirements/data.in -o requirements/data.txt
	$(UV) pip compile --quiet --no-deps --generate-hashes --no-emit-index-url --no-header requirements/node.in -o requirements/node.txt

clean: ## remove what the targets made
	rm -rf .venv .tools .dynamos .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench-results

$(READY): requirements/dev.txt requirements/data.txt pyproject.toml | $(OWN_UV)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "DYNAMOS needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt requirements/data.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(READY)

# The CLI is built without its language hosts: two small programs beside it are ours.
PULUMI_VERSION := v3.259.0
.tools/pulumi/pulumi: infra/engine/go.mod infra/engine/go.sum infra/engine/language_host.py | $(READY)
	@command -v go >/dev/null || { echo "the Pulumi CLI is built with Go: install Go, or Pulumi 3.259 or newer" >&2; exit 1; }
	@mkdir -p .tools/pulumi
	cd infra/engine && go build -trimpath -o $(CURDIR)/.tools/pulumi/pulumi \
	    -ldflags "-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=$(PULUMI_VERSION)" \
	    github.com/pulumi/pulumi/pkg/v3/cmd/pulumi
	@printf '#!/bin/sh\nexec "%s/$(BIN)/python" "%s/infra/engine/language_host.py" "$$@"\n' "$(CURDIR)" "$(CURDIR)" \
	    > .tools/pulumi/pulumi-language-python
	@printf '#!/bin/sh\nexec "%s/$(BIN)/python" "%s/infra/engine/resource_host.py" "$$@"\n' "$(CURDIR)" "$(CURDIR)" \
	    > .tools/pulumi/pulumi-resource-pulumi-python
	@chmod +x .tools/pulumi/pulumi-*

.tools/kubernetes/.built: $(wildcard tests/cluster/programs/build tests/cluster/programs/*/*.*)
	@command -v go >/dev/null || { echo "a Kubernetes for tests is built with Go: install Go" >&2; exit 1; }
	tests/cluster/programs/build .tools/kubernetes
	@touch $@

.tools/bin/uv:
	@.ci/uv $(PYTHON)
