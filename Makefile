# Everything runs in .venv, made here: nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-keras

.PHONY: demo test check format peers clean

demo: $(STAMP)  ## install, then train, judge and use a network on bundled real digits
	$(BIN)/skipway demo

test: $(STAMP)  ## install, then run the tests
	$(BIN)/pytest

check: $(STAMP)  ## formatting, lint, types, structure
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_structure.py

format: $(STAMP)  ## rewrite the files as `check` wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: skipway needs Python 3.11 or newer; try make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

peers: $(PEERS)/.installed  ## build the environment that benchmarks/signs_vs_keras.py runs Keras in

$(PEERS)/.installed:
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check tensorflow-cpu h5py pillow
	@touch $@

clean:  ## remove what this file made, but no runs
	rm -rf $(VENV) $(PEERS) .mypy_cache .ruff_cache .pytest_cache
