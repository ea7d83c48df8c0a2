# make run ARGS="model=cnn train=quick"
# make test-all VENV=.venv-newest CONSTRAINTS=    with the newest versions
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?= model=dense128
CONSTRAINTS := constraints.txt
INSTALL := -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=--constraint %)
WHEEL := $(abspath $(VENV)-wheel)

PARALLEL := --numprocesses 2 --dist worksteal

.PHONY: run test test-all coverage lint map pictures hooks wheel bench bench-quick ui

run: $(VENV)/.run  ## train, evaluate and track one experiment
	$(BIN)/python -m mnist_exp.run $(ARGS)
	@echo "browse every run: make ui"

test: $(VENV)/.dev  ## the tests, without the slow ones
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-all: $(VENV)/.dev  ## all the tests
	$(BIN)/python -m pytest $(PARALLEL)

coverage: $(VENV)/.dev  ## make test with branch coverage; fails below fail_under of pyproject.toml
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not slow" $(PARALLEL)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(VENV)/.dev  ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/map.py --check

map: $(VENV)/.dev  ## draw docs/images/architecture.svg and print the counts
	$(BIN)/python docs/map.py

pictures: $(VENV)/.dev  ## make the README's pictures anew: MNIST, Chromium and a quarter of an hour
	$(BIN)/python docs/pictures.py

hooks: $(VENV)/.dev  ## install the pre-commit hooks and run them on every file
	$(BIN)/pre-commit install
	$(BIN)/pre-commit run --all-files

wheel:  ## install the wheel in a new environment; train and evaluate outside the checkout
	$(PYTHON) -m venv --clear $(WHEEL)
	$(WHEEL)/bin/python $(INSTALL) .
	cd "$$(mktemp -d)" && $(WHEEL)/bin/python -m mnist_exp.run debug=fast data=mnist5k \
		&& $(WHEEL)/bin/mnist-exp evaluate --experiment debug

bench: $(VENV)/.dev  ## speed and accuracy on this machine, an hour; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.dev  ## the same in three minutes, on the screen only
	$(BIN)/python -m benchmarks --quick epochs peak accuracy start_up

ui: $(VENV)/.run  ## browse the tracked runs
	$(BIN)/mlflow ui

$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit(f"mnist_exp needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is {v[0]}.{v[1]}: name another with make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv module (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "setting up $(VENV): a minute or two, once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(INSTALL) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "adding what the tests need"
	@$(BIN)/python $(INSTALL) --editable '.[dev]'
	@touch $@
