# Everything runs in .venv, made here: nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PARITY := .venv-parity

.PHONY: demo test test-all torture check format dist peers parity clean

demo: $(STAMP)  ## install, then train, judge and use a network on bundled real digits
	$(BIN)/skipway demo

test: $(STAMP)  ## install, then run the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4

test-all: $(STAMP)  ## install, then run the tests, those that take minutes among them
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 -m 'slow or not slow'

torture: $(STAMP)  ## attack runs, checkpoints, caches and headers at random (20 minutes; SEED=N for others)
	$(BIN)/python -m scripts.torture --seed $(or $(SEED),0)

check: $(STAMP)  ## formatting, lint, types, density, structure
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python scripts/density.py --most 0.42 --longest 9
	$(BIN)/pytest tests/test_structure.py tests/test_pages_of_the_source.py

format: $(STAMP)  ## rewrite the files as `check` wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dist:  ## build the source archive and the wheel, check them, and try them in an empty environment (QUICK=1: no demo)
	$(PYTHON) scripts/check_dist.py $(if $(QUICK),--quick)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: skipway needs Python 3.11 or newer; try make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

peers: $(STAMP) $(PARITY)/.tensorflow $(PARITY)/.timm $(PARITY)/.peers  ## build the environments that benchmarks/compare_*.py run the peers in

# Keras on JAX and, with the torch of $(VENV), on torch, beside TensorFlow.
$(PARITY)/.peers: $(STAMP) $(PARITY)/.keras
	$(PARITY)/keras/bin/python -m pip install --quiet --disable-pip-version-check 'jax[cpu]'
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > \
	  "$$($(PARITY)/keras/bin/python -c 'import site; print(site.getsitepackages()[0])')/skipway.pth"
	@touch $@

parity: $(STAMP) $(PARITY)/.tensorflow $(PARITY)/.keras $(PARITY)/.timm  ## run the original code, import what its frameworks save, and print how far ours is
	$(BIN)/python -m tests.parity.table --tensorflow $(PARITY)/tensorflow/bin/python --keras $(PARITY)/keras/bin/python \
	  --timm $(PARITY)/timm/bin/python

# TensorFlow 2.15 is the last that runs tf_slim, and needs Python 3.11.
$(PARITY)/.tensorflow:
	$(PYTHON) -m venv $(PARITY)/tensorflow
	$(PARITY)/tensorflow/bin/python -m pip install --quiet --disable-pip-version-check \
	  'tensorflow-cpu==2.15.*' 'tf_keras==2.15.*' 'tf_slim==1.1.*' 'opencv-python-headless<4.12' 'numpy<2' 'pillow<14'
	@touch $@

$(PARITY)/.keras:
	$(PYTHON) -m venv $(PARITY)/keras
	$(PARITY)/keras/bin/python -m pip install --quiet --disable-pip-version-check \
	  'tensorflow-cpu==2.21.*' 'keras==3.15.*' 'pillow<14'
	@touch $@

# timm uses the torch of $(VENV).
$(PARITY)/.timm: $(STAMP)
	$(PYTHON) -m venv $(PARITY)/timm
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > \
	  "$$($(PARITY)/timm/bin/python -c 'import site; print(site.getsitepackages()[0])')/skipway.pth"
	$(PARITY)/timm/bin/python -m pip install --quiet --disable-pip-version-check 'timm==1.0.*'
	@touch $@

clean:  ## remove what this file made, but no runs
	rm -rf $(VENV) $(PARITY) build dist .mypy_cache .ruff_cache .pytest_cache
