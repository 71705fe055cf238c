# Every target does its own set-up from a clean checkout: a virtual environment by uv, with hashes checked.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench fmt lock clean

PYTHON ?= python3
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
BIN := .venv/bin
READY := .venv/.ready

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.tools/bin/uv:
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv

$(READY): requirements/dev.txt requirements/data.txt pyproject.toml | $(filter .tools/bin/uv,$(UV))
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt requirements/data.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $(READY)

demo: $(READY) ## every idea of the system on this machine, in under a minute
	$(BIN)/dynamos demo

test: $(READY) ## the whole of the project's behaviour
	$(BIN)/python -m pytest -n auto --dist loadgroup

check: $(READY) ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

bench: $(READY) ## latency, throughput and memory as ratios to plain DuckDB, and JSON
	$(BIN)/python -m tests.bench

fmt: $(READY) ## write the formatter's style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: | $(filter .tools/bin/uv,$(UV)) ## renew the hashed requirements
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --no-emit-package dynamos --all-extras --group dev pyproject.toml -o requirements/dev.txt
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --extra local --extra charts pyproject.toml -o requirements/run.txt
	$(UV) pip compile --quiet --no-deps --generate-hashes --no-emit-index-url --no-header requirements/data.in -o requirements/data.txt

clean: ## remove what the targets made
	rm -rf .venv .tools .dynamos .mypy_cache .ruff_cache .pytest_cache .hypothesis
