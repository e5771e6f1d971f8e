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

COMPILED = $(BIN)/python -c 'import os, sys, ipc.speed as s; sys.exit(s.read_speed(os.environ).name != "compiled")'

# make run SHARDS=4 PORT=5673 DATA=/srv/ebbmq BIND=0.0.0.0 ARGS="--log-format json"
SHARDS ?= 2
PORT   ?= 5672
BIND   ?= 127.0.0.1,::1
DATA   ?= .ebbmq
ARGS   ?=
# make test TESTS=tests/store PYTEST_ARGS="-k recovery -x"
TESTS       ?= tests
PYTEST_ARGS ?=

# What the sanitizers watch: everything that touches bytes. Not what measures the allocator, which they replace.
SANITIZED       := build/sanitized/tree
SANITIZED_TESTS ?= tests/speed tests/wire tests/ipc tests/store tests/protocols --ignore=tests/ipc/test_allocator.py
FUZZ_SECONDS    ?= 60

.PHONY: help man run build test lint types imports everything tests interpreted sanitize format bench bench-quick bench-memory bench-instructions lock clean
.PHONY: clients brokers brokers-interpreted parts parts-interpreted conformance fuzz hostile schemathesis memory-table simulate torture

help: ## show this list
	@echo "EbbMQ: a message broker whose memory ebbs."
	grep -hE '^[a-z-]+:.*## ' Makefile | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

run: build ## start a broker on loopback (SHARDS=2 PORT=5672 BIND=127.0.0.1,::1 DATA=.ebbmq ARGS=)
	@exec $(BIN)/ebbmq serve --shards "$(SHARDS)" --bind "$(BIND)" --amqp-port "$(PORT)" --data-dir "$(DATA)" $(ARGS)

# Where there is a compiler with Python's headers, what it cannot compile is an error; without, everything runs interpreted.
# Always run, because a build that has nothing to do takes a second and sees more than times of files.
build: $(VENV)/.installed ## compile the hot modules beside their sources
	@compiler="$${CC:-$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_config_var("CC"))')}"
	headers="$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')"
	if command -v "$${compiler%% *}" >/dev/null && [ -e "$$headers/Python.h" ]; then
	    EBBMQ_MUST_COMPILE=1 $(BIN)/python setup.py --quiet build_ext --inplace
	else
	    $(BIN)/python setup.py --quiet build_ext --inplace
	    echo "======== NO C COMPILER ($$compiler) OR NO PYTHON HEADERS ($$headers):" \
	         "HOT MODULES RUN INTERPRETED, MANY TIMES SLOWER ========" >&2
	fi

# Every check runs even when an earlier one failed, so that one run tells all.
test: $(VENV)/.installed-test ## lint, types, import contracts, and tests at both speeds (TESTS=tests PYTEST_ARGS=)
	@failed=()
	for check in lint types imports build everything; do
	    echo "== $$check"
	    started=$$SECONDS
	    if ! $(MAKE) $$check; then failed+=("$$check"); fi
	    echo "   $$check: $$((SECONDS - started)) s"
	done
	if [ $${#failed[@]} -gt 0 ]; then echo "FAILED: $${failed[*]}" >&2; exit 1; fi
	$(COMPILED) && echo "all checks passed" || echo "all checks passed, but interpreted only: there is no C compiler"

lint: $(VENV)/.installed-test ## ruff: rules and format
	@$(BIN)/ruff check && $(BIN)/ruff format --check

types: $(VENV)/.installed-test ## mypy --strict over packages, tests and benchmarks
	@$(BIN)/mypy --strict

imports: $(VENV)/.installed-test ## import-linter: who may import whom
	@PYTHONPATH=. $(BIN)/lint-imports

# Whole brokers are waited for most of the time, and what needs none is computed meanwhile; told one after the other.
everything: $(VENV)/.installed-test
	@if [ "$(TESTS)$(PYTEST_ARGS)" != tests ]; then
	    $(MAKE) tests && $(MAKE) interpreted
	    exit
	fi
	if $(COMPILED); then
	    lanes=("clients parts-interpreted" "brokers" "parts brokers-interpreted")
	else
	    echo "======== TESTS ARE NOT RUN COMPILED: nothing is compiled ========" >&2
	    lanes=("clients parts-interpreted" "brokers")
	fi
	said=$$(mktemp -d); trap 'rm -rf "$$said"' EXIT
	lane() { code=0; for part in "$$@"; do echo "== $$part"; $(MAKE) $$part || code=$$?; done; return $$code; }
	beside=()
	for number in $$(seq 1 $$(($${#lanes[@]} - 1))); do
	    lane $${lanes[$$number]} > "$$said/$$number" 2>&1 & beside+=($$!)
	done
	code=0; lane $${lanes[0]} || code=$$?
	for one in "$${beside[@]}"; do wait "$$one" || code=$$?; done
	cat "$$said"/*
	exit $$code

tests: build $(VENV)/.installed-test ## pytest alone, at the speed that can be had
	@$(BIN)/python -m pytest $(TESTS) $(PYTEST_ARGS)

interpreted: $(VENV)/.installed-test ## pytest alone, the hot modules interpreted
	@EBBMQ_PURE=1 $(BIN)/python -m pytest $(TESTS) $(PYTEST_ARGS)

parts:
	@$(BIN)/python -m pytest -m "not process"
# No hot module takes part in what is left out, or none that could change what is shown.
SAME_AT_BOTH_SPEEDS := management conf compaction $(addprefix runtime/,auth control decisions pressure router supervisor) \
    host/test_out_of_memory.py host/test_idle_trim.py host/test_template.py model/test_cut.py \
    store/test_every_fault_of_a_vhost.py store/test_definitions.py
parts-interpreted:
	@EBBMQ_PURE=1 $(BIN)/python -m pytest -m "not process" $(addprefix --ignore=tests/,$(SAME_AT_BOTH_SPEEDS))
clients:
	@$(BIN)/python -m pytest -m process tests/clients
brokers:
	@$(BIN)/python -m pytest -m process --ignore=tests/clients
# What whole brokers show is shown compiled; interpreted ones have to show what goes through them.
brokers-interpreted:
	@EBBMQ_PURE=1 $(BIN)/python -m pytest $(addprefix tests/clients/test_,pika.py bad_input.py sudden_death.py speed.py)

# A tree of its own: a sanitized module must never be found by a broker. Leaks are not looked for, because the interpreter
# itself ends without freeing all; its own allocator is replaced, so that every object has guarded ends.
sanitize: $(VENV)/.installed-test ## tests of bytes and a fuzz corpus under address and undefined behaviour sanitizers
	@rm -rf $(SANITIZED)
	EBBMQ_SANITIZE=1 EBBMQ_MUST_COMPILE=1 $(BIN)/python setup.py --quiet build --build-lib $(SANITIZED)
	cp -r tests bench pyproject.toml $(SANITIZED)/
	python=$$(realpath -s $(BIN)/python)
	cd $(SANITIZED)
	LD_PRELOAD="$$($${CC:-gcc} -print-file-name=libasan.so)" PYTHONMALLOC=malloc EBBMQ_SANITIZE=1 \
	    ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1 \
	    EBBMQ_FUZZ_SECONDS=$(FUZZ_SECONDS) EBBMQ_SEEDS=0:30 \
	    "$$python" -m pytest --capture=sys $(SANITIZED_TESTS) $(PYTEST_ARGS)

format: $(VENV)/.installed-test ## let ruff format and fix
	@$(BIN)/ruff format && $(BIN)/ruff check --fix

# make bench CASES=16B,latency BENCH_ARGS="--repetitions 3": some cases, printed only
CASES      ?=
BENCH_ARGS ?=
# Only a run of everything may replace what docs/measurements.md says.
BENCH_WRITE = $(if $(CASES),,--write)

bench: build $(VENV)/.installed-bench ## the matrix beside RabbitMQ, and memory, into docs/: 40 minutes (CASES= BENCH_ARGS=)
	@$(BIN)/python -m bench.matrix --cases "$(CASES)" $(BENCH_WRITE) $(BENCH_ARGS)
	if [ -z "$(CASES)" ]; then
	    $(BIN)/python -m bench.standing --write
	    $(BIN)/python -m bench.durability --write
	    $(BIN)/python -m bench.footprint --write
	    $(BIN)/python -m bench.account --write
	    $(BIN)/python -m bench.management --write
	    $(BIN)/python -m bench.allocations --write
	fi

bench-quick: build $(VENV)/.installed-test ## the matrix in a few minutes, printed only (CASES= BENCH_ARGS=)
	@$(BIN)/python -m bench.matrix --cases "$(CASES)" --repetitions 1 --seconds 2 --minutes 5 $(BENCH_ARGS)

bench-memory: build $(VENV)/.installed-bench ## memory over time as pictures into docs/img, printed as tables: 15 minutes
	@$(BIN)/python -m bench.memory.pictures $(BENCH_ARGS)

man: $(VENV)/.installed ## the manual pages in conf/man, from the commands' help texts
	@$(BIN)/python -m runtime.cli.manual conf/man

memory-table: $(VENV)/.installed-test ## what of all collections stands in docs/memory.md, read off the code
	@$(BIN)/python -m tests.compaction.collections_table --write

bench-instructions: build $(VENV)/.installed-test ## instructions a message, by callgrind, into the history and docs/
	@$(BIN)/python -m bench.instructions --write $(BENCH_ARGS)

# make conformance SUITES=py-amqp,kombu CONTROL=1: some suites, against RabbitMQ
SUITES  ?=
CONTROL ?=

conformance: build $(VENV)/.installed-test ## suites that clients ship, against a fresh broker (SUITES= CONTROL=1 is RabbitMQ)
	@$(BIN)/python -m tests.conformance --suites "$(SUITES)" $(if $(filter-out 0,$(CONTROL)),--control)

# make fuzz SECONDS=600 TARGET=segments
SECONDS ?= 60
TARGET  ?=

fuzz: $(VENV)/.installed-fuzz ## every decoder against what is not sound, by coverage where atheris installs (SECONDS=60 TARGET=)
	@$(BIN)/python -m tests.hostile.fuzz --seconds $(SECONDS) $(if $(TARGET),--target "$(TARGET)")

hostile: build $(VENV)/.installed-test ## attacks on a real broker at their full size: ten times what `make test` does
	@EBBMQ_HOSTILE_SCALE=1 $(BIN)/python -m pytest tests/hostile/test_attacks.py -s $(PYTEST_ARGS)

# make schemathesis SECONDS=600 SEED=3
schemathesis: build $(VENV)/.installed-test ## the management API against all that its description lets one ask (SECONDS=60 SEED=)
	@$(BIN)/python -m tests.management.described --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

# atheris brings wheels for some interpreters only; without it damage is dealt out unguided.
$(VENV)/.installed-fuzz: $(VENV)/.installed-test
	@$(INSTALL) --only-binary atheris atheris || echo "atheris does not install here: decoders are fuzzed unguided"
	touch $@

# make simulate MINUTES=60, or make simulate SEED=123 for one run
MINUTES ?= 2

simulate: build $(VENV)/.installed-test ## a broker under seeded clients and faults: nothing confirmed is lost (MINUTES=2 SEED=)
	@$(BIN)/python -m tests.simulation --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# make torture SEED=17 ROUNDS=10: the rounds of one seed again
ROUNDS ?= 200
SEED   ?=

torture: build $(VENV)/.installed-test ## kill -9 under load, again and again, with audits (ROUNDS=200 SEED=)
	@$(BIN)/python -m tests.torture --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED))

$(VENV)/.installed-bench: $(VENV)/.installed-test
	@echo "installing what draws the plot into $(VENV)/ (once)"
	$(INSTALL) --no-build-isolation -e '.[test,bench]'
	touch $@

# A clean environment, so that the pins are those of the declared dependencies and nothing else.
lock: ## renew requirements.lock from the newest allowed versions
	@fresh=$$(mktemp -d)
	trap 'rm -rf "$$fresh"' EXIT
	$(PYTHON) -m venv "$$fresh"
	EBBMQ_PURE=1 "$$fresh/bin/pip" install --quiet '.[test,bench]'
	{ sed -n '/^#/p' requirements.lock; "$$fresh/bin/pip" freeze --all --exclude ebbmq --exclude pip; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean: ## remove what was built or cached; data in .ebbmq/ stays
	rm -rf $(VENV) build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
	find ipc shards -name '*.so' -delete

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

# Installed editable: a change in the sources needs no new installation, a change in pyproject.toml does. What compiles is
# installed first and at its pinned version, and `make build` compiles: there one sees how that goes.
INSTALL := EBBMQ_PURE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock

$(VENV)/.installed: $(BIN)/python pyproject.toml requirements.lock
	@echo "installing into $(VENV)/ (once)"
	$(INSTALL) setuptools Cython
	$(INSTALL) --no-build-isolation -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "installing the tests' tools into $(VENV)/ (once)"
	$(INSTALL) --no-build-isolation -e '.[test]'
	touch $@
