# Two commands on a fresh machine with git, make and Python 3.11 or 3.12: `make demo`, `make test`.
# Everything is installed into .venv, with uv when it is on PATH, else with venv and pip.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
DEV := $(VENV)/.dev
MONGO := $(VENV)/mongo/bin
TOOLS := $(VENV)/tools
CHECKOV := $(VENV)/checkov
POLICIES := $(VENV)/policies
KCL := $(VENV)/kcl
FUZZ := $(VENV)/fuzz
ARGS ?=
# One more than cores: many a test waits for a process that it has started.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
# Byte code is kept, and kept in one place: whoever forbids it (many images do) pays two seconds of
# compiling for every process that a demo or a test starts.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache

.PHONY: help demo test setup setup-dev setup-extras mongo kcl tools scan slow soak fuzz peers lint types \
  layers format ci lock clean

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(CORE) ## The main job on an embedded AWS; options: make demo ARGS="--seconds 30 --keep"
	@$(BIN)/headrace demo $(ARGS)

test: $(DEV) $(POLICIES)/.tools ## The fast tests; options: make test ARGS="-k slices"
	@PATH="$$PWD/$(MONGO):$$PATH" $(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

slow: $(DEV) ## The tests that need minutes: crashes, README commands
	@PATH="$$PWD/$(MONGO):$$PATH" $(BIN)/pytest -m slow -n $(WORKERS) --dist loadfile --durations 20 $(ARGS)

# A server that speaks MongoDB's protocol, for the extract's tests. In an environment of its own: it
# is no dependency of ours, and has another licence (GPL-2.0).
mongo: $(CORE) ## Install a MongoDB-wire server for the tests
	@test -x $(MONGO)/secantusd-py || { $(BIN)/python -m venv $(VENV)/mongo && \
	  $(MONGO)/pip --quiet --disable-pip-version-check install secantusdb==0.7.0b3; }

# The Kinesis Client Library and, where npm is, the one emulator that closes a shard as AWS does:
# beside headrace's libraries, not among them.
kcl: $(KCL)/.tools ## Install the Kinesis Client Library for the archiver's slow test
	@if command -v npm >/dev/null; then \
	  test -d $(KCL)/node/node_modules/kinesis-local || \
	  npm install --silent --no-audit --no-fund --prefix $(KCL)/node kinesis-local@0.6.2; \
	else echo "no npm: tests/archive's live test will be skipped"; fi

# The scanners: environments of their own, because they pin what headrace needs newer.
tools: $(TOOLS)/.tools $(CHECKOV)/.tools $(POLICIES)/.tools ## Install the scanners and the policy pack's SDK

scan: $(TOOLS)/.tools ## What the scanners say about workflows, scripts, code and secrets
	@$(TOOLS)/bin/python deploy/tools/scan.py $(ARGS)

setup-extras: $(CORE) ## Install Prefect and MongoDB's driver as well (`headrace up --with-prefect`)
	@deploy/bootstrap $(VENV) deploy/requirements-extras.lock

setup: $(CORE) ## Install what `headrace` needs, nothing else
setup-dev: $(DEV) ## Install the developer's tools as well

soak: $(DEV) ## The whole platform at full rate; options: make soak ARGS="--minutes 60"
	@$(BIN)/python tests/benchmarks/soak.py $(ARGS)

fuzz: $(DEV) $(FUZZ)/.tools ## Every decoder for any bytes; options: make fuzz ARGS="--seconds 60"
	@$(BIN)/python tests/fuzz/run.py $(ARGS)

peers: $(DEV) ## Install DuckDB's, Spark's, Flink's … runners (2.5 GB) and compare; ARGS="--runs 3"
	@$(BIN)/python tests/benchmarks/peers/install.py
	@$(BIN)/python tests/benchmarks/peers/compare.py $(ARGS)

lint: $(DEV) ## Style and formatting
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(DEV) ## Mend what ruff can mend
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: $(DEV) $(TOOLS)/.tools ## Types, strictly
	@$(BIN)/mypy
	@$(TOOLS)/bin/basedpyright -p infra && $(TOOLS)/bin/basedpyright -p infra/policies

layers: $(DEV) ## Who may import whom
	@$(BIN)/lint-imports

ci: ## Everything that .ci/run checks
	@.ci/run

lock: ## Resolve the dependencies anew into deploy/*.lock (needs uv)
	@deploy/lock

clean: ## Remove .venv, caches and the local platform's data
	@if [ -x $(BIN)/headrace ]; then $(BIN)/headrace down || true; fi
	@rm -rf $(VENV) .headrace .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# The stamps: a second run is instant, a changed lock or package list installs again.
$(CORE): deploy/requirements.lock pyproject.toml deploy/bootstrap
	@deploy/bootstrap $(VENV) deploy/requirements.lock
	@touch $@

$(DEV): $(CORE) deploy/requirements-dev.lock
	@deploy/bootstrap $(VENV) deploy/requirements-dev.lock
	@touch $@

$(TOOLS)/.tools: deploy/tools/requirements.txt deploy/bootstrap
	@deploy/bootstrap $(TOOLS) $< --lock-only
	@touch $@

$(POLICIES)/.tools: infra/policies/requirements.txt deploy/bootstrap
	@deploy/bootstrap $(POLICIES) $< --lock-only
	@touch $@

$(KCL)/.tools: deploy/tools/kcl.txt deploy/bootstrap
	@deploy/bootstrap $(KCL) $< --lock-only
	@touch $@

$(FUZZ)/.tools: deploy/tools/fuzz.txt deploy/bootstrap
	@deploy/bootstrap $(FUZZ) $< --lock-only
	@touch $@

$(CHECKOV)/.tools: deploy/tools/checkov.txt deploy/bootstrap
	@deploy/bootstrap $(CHECKOV) $< --lock-only
	@touch $@
