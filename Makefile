# Two commands on a bare machine with Python 3.11 or newer, make and git: `make demo` and `make test`.
# Nothing is installed outside this folder: uv goes to .tools/ (unless it is on the PATH), everything else to .venv/.

.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
UV := $(or $(shell uv --version >/dev/null 2>&1 && command -v uv),.tools/bin/uv)
export UV_PYTHON_DOWNLOADS := never

.PHONY: help install demo serve test test-slow lint bench clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 18

install: $(READY) ## the environment alone, for the commands in .venv/bin

demo: $(READY) ## curate real footage, train three stages, sample a video: runs/demo
	@$(BIN)/rushes demo

serve: $(READY) ## Prefect's UI with the flows, on this machine only
	@$(BIN)/rushes serve

test: lint ## everything that must hold: style, arrows, types, tests
	@echo "== pytest"; $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(READY) ## the tests that take minutes
	@echo "== pytest, slow"; $(BIN)/pytest -m slow

lint: $(READY) ## ruff, import arrows, types
	@echo "== ruff check"; $(BIN)/ruff check
	@echo "== ruff format"; $(BIN)/ruff format --check
	@echo "== import arrows"; $(BIN)/lint-imports --no-logo
	@echo "== pyright"; $(BIN)/pyright

bench: $(READY) ## the numbers in the README that need neither a card nor footage of yours
	@for name in cuts curation_throughput motion text duplicates; do \
	  echo "== benchmarks/$$name.py"; $(BIN)/python "benchmarks/$$name.py" || exit 1; done

clean: ## remove the environment and caches; runs/ stays
	rm -rf .venv .tools .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# The environment, made once and again when pyproject.toml changes. Compiled at once on all cores (half a minute): where
# Python may not write bytecode, every process of Ray would compile what it imports anew.
$(READY): pyproject.toml | $(UV)
	@echo "== setting up .venv (a few minutes the first time)"
	@$(UV) sync --quiet --compile-bytecode $(if $(filter-out python3,$(PYTHON)),--python $(PYTHON))
	@touch $@

.tools/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "error: Python 3.11 or newer is needed as $(PYTHON); name another with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "== fetching uv into .tools"
	@if $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore --target .tools uv; \
	elif $(PYTHON) -m venv .tools/venv >/dev/null 2>&1; then \
	  .tools/venv/bin/pip install --quiet --disable-pip-version-check uv && mkdir -p .tools/bin \
	  && ln -sf ../venv/bin/uv .tools/bin/uv; \
	else \
	  rm -rf .tools; echo "error: neither uv, pip nor venv is here; as root: apt-get install python3-venv" >&2; exit 1; \
	fi
