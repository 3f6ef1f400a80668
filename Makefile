# make setup | demo | test | lint | chaos | bench | docs
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
WHEEL := .make/wheel
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# Extra words for pytest: make test ARGS="-k recorder"
ARGS ?=
# Prints what a step took: $(call timed,NAME,COMMAND)
timed = @began=$$SECONDS; echo "== $(1)"; { $(2); } || exit 1; echo "== $(1): $$((SECONDS - began)) s"

.PHONY: setup demo test lint chaos bench docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "tqctl needs Python 3.11 or later on PATH (or make PYTHON=...)" >&2; exit 1; }
	@echo "== setup: $(VENV) with $(PYTHON)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

demo:
	@test -n "$(PYTHON)" || { echo "tqctl needs Python 3.11 or later on PATH (or make PYTHON=...)" >&2; exit 1; }
	@echo "== demo: a new virtual environment in .make/demo"
	@rm -rf .make/demo
	@$(PYTHON) -m venv .make/demo
	@.make/demo/bin/python -m pip install --quiet .
	@.make/demo/bin/python examples/demo.py

test: lint
	$(call timed,the wheel,rm -rf $(WHEEL) && $(BIN)/python -m hatchling build -t wheel -d $(WHEEL)/dist >/dev/null \
		&& $(BIN)/python -m pip install --quiet --no-deps --no-index --target $(WHEEL)/site $(WHEEL)/dist/*.whl)
	$(call timed,cli suite from the wheel,PYTHONPATH=$(CURDIR)/$(WHEEL)/site $(BIN)/python -m pytest tests/cli -n 2 $(ARGS))
	$(call timed,all other suites,$(BIN)/python -m pytest --ignore=tests/cli -n 2 $(ARGS))

lint: setup
	$(call timed,ruff,$(BIN)/ruff check . && $(BIN)/ruff format --check .)
	$(call timed,mypy,$(BIN)/mypy)
	$(call timed,import-linter,$(BIN)/lint-imports --no-logo)

# Random seeds, printed; SEED=N repeats a run, SCALE=full takes the sizes that docs/reliability.md tells of.
# Variants that need root say so when they cannot run.
SCALE ?= small
ifndef SEED
SEED := $(shell echo $$RANDOM)
endif
chaos: setup
	@echo "== chaos with seed $(SEED) at scale $(SCALE)"
	TQCTL_CHAOS_SCALE=$(SCALE) TQCTL_CHAOS_SEED=$(SEED) $(BIN)/python -m pytest tests/chaos tests/property \
		--hypothesis-profile=chaos --hypothesis-seed=$(SEED) --randomly-seed=$(SEED) --timeout=1800 $(ARGS)

bench: setup
	$(BIN)/python -m tests.bench $(ARGS)

# Writes what is generated from the code: docs/configuration.md, the state diagram, completions.
docs: setup
	$(BIN)/python -m tests.docs.generate

clean:
	rm -rf $(VENV) .make dist
