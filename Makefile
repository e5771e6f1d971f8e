# Two commands do all the set-up: `make run` starts a broker, `make test` checks everything.
# Both keep to this checkout: packages in .venv/, the broker's data in .ebbmq/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.ONESHELL:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# make run SHARDS=4 PORT=5673 DATA=/srv/ebbmq BIND=0.0.0.0 ARGS="--log-format json"
SHARDS ?= 2
PORT   ?= 5672
BIND   ?= 127.0.0.1,::1
DATA   ?= .ebbmq
ARGS   ?=
# make test TESTS=tests/store PYTEST_ARGS="-k recovery -x"
TESTS       ?= tests
PYTEST_ARGS ?=

.PHONY: help run test lint types imports tests format bench lock clean

help: ## show this list
	@echo "EbbMQ: a message broker whose memory ebbs."
	grep -hE '^[a-z]+:.*## ' Makefile | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: $(VENV)/.installed ## start a broker on loopback (SHARDS=2 PORT=5672 BIND=127.0.0.1,::1 DATA=.ebbmq ARGS=)
	@exec $(BIN)/ebbmq serve --shards "$(SHARDS)" --bind "$(BIND)" --amqp-port "$(PORT)" --data-dir "$(DATA)" $(ARGS)

# Every check runs even when an earlier one failed, so that one run tells all.
test: $(VENV)/.installed-test ## lint, types, import contracts and tests (TESTS=tests PYTEST_ARGS=)
	@failed=()
	for check in lint types imports tests; do
	    echo "== $$check"
	    started=$$SECONDS
	    if ! $(MAKE) $$check; then failed+=("$$check"); fi
	    echo "   $$check: $$((SECONDS - started)) s"
	done
	if [ $${#failed[@]} -gt 0 ]; then echo "FAILED: $${failed[*]}" >&2; exit 1; fi
	echo "all checks passed"

lint: $(VENV)/.installed-test ## ruff: rules and format
	@$(BIN)/ruff check && $(BIN)/ruff format --check

types: $(VENV)/.installed-test ## mypy --strict over packages, tests and benchmarks
	@$(BIN)/mypy --strict

imports: $(VENV)/.installed-test ## import-linter: who may import whom
	@PYTHONPATH=. $(BIN)/lint-imports

tests: $(VENV)/.installed-test ## pytest alone
	@$(BIN)/python -m pytest $(TESTS) $(PYTEST_ARGS)

format: $(VENV)/.installed-test ## let ruff format and fix
	@$(BIN)/ruff format && $(BIN)/ruff check --fix

bench: $(VENV)/.installed-test ## measure a fresh broker on loopback; prints markdown tables
	@$(BIN)/python -m bench.throughput
	$(BIN)/python -m bench.throughput --durable
	$(BIN)/python -m bench.footprint

# A clean environment, so that the pins are those of the declared dependencies and nothing else.
lock: ## renew requirements.lock from the newest allowed versions
	@fresh=$$(mktemp -d)
	trap 'rm -rf "$$fresh"' EXIT
	$(PYTHON) -m venv "$$fresh"
	"$$fresh/bin/pip" install --quiet '.[test]'
	{ sed -n '/^#/p' requirements.lock; "$$fresh/bin/pip" freeze --exclude ebbmq; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean: ## remove what was built or cached; data in .ebbmq/ stays
	rm -rf $(VENV) build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found: install Python 3.11 or newer" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
	    echo "make: EbbMQ needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1);" \
	         "choose another with PYTHON=…" >&2
	    exit 1
	}
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || {
	    echo "make: $(PYTHON) has no venv module: on Debian, apt install python3-venv" >&2
	    exit 1
	}
	$(PYTHON) -m venv $(VENV)

# Installed editable: a change in the sources needs no new installation, a change in pyproject.toml does.
$(VENV)/.installed: $(BIN)/python pyproject.toml requirements.lock
	@echo "installing into $(VENV)/ (once)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e .
	touch $@

$(VENV)/.installed-test: $(BIN)/python pyproject.toml requirements.lock
	@echo "installing with the tests' tools into $(VENV)/ (once)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[test]'
	touch $(VENV)/.installed $@
