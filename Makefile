# make run ARGS="model=cnn train=quick"
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?= model=dense128
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

IN_PAIRS := --numprocesses 2 --dist worksteal

.PHONY: run test test-all lint bench bench-quick ui

run: $(VENV)/.run  ## train, score and record one experiment
	$(BIN)/python -m mnist_exp.run $(ARGS)
	@echo "browse every run: make ui"

test: $(VENV)/.dev  ## the tests, without the slow ones
	$(BIN)/python -m pytest -m "not slow" $(IN_PAIRS)

test-all: $(VENV)/.dev  ## all the tests
	$(BIN)/python -m pytest $(IN_PAIRS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## speed and accuracy on this machine, an hour; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.dev  ## the same in three minutes, on the screen only
	$(BIN)/python -m benchmarks --quick epochs peak accuracy start_up

ui: $(VENV)/.run  ## browse the recorded runs
	$(BIN)/mlflow ui

$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit(f"mnist_exp needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is {v[0]}.{v[1]}: name another with make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv module (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "setting up $(VENV): a minute or two, once"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "adding what the tests need"
	@$(INSTALL) --editable '.[dev]'
	@touch $@
