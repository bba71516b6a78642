# A fresh machine needs Python 3.11+ and a package index; `make demo` and `make test` do the rest.
# Another torch, e.g. a CPU build: make test TORCH=torch==2.13.0

PYTHON ?= python3
TORCH ?=
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types docs weights benchmarks test-lowest clean

demo: $(VENV)/.installed
	$(BIN)/zoobot3d demo --out demo

test: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell $$(git ls-files)

types: $(VENV)/.dev-installed
	$(BIN)/mypy

docs: $(VENV)/.docs-installed
	$(BIN)/sphinx-build -q -W -b html docs docs/_build

# The bundle that comes with the package, from seeds to file; `zoobot3d recipes weights` prints its settings. Hours on two cores.
weights: $(VENV)/.installed
	$(BIN)/pip install -q -e '.[weights]'
	$(BIN)/python tools/make_weights.py --work weights

# Each writes a JSON row and a plot to benchmarks/results. Those that train are run by hand, for an hour or so each:
# fast_vs_published.py, joint.py, finetune.py, streaming.py, and uncertainty.py on what joint.py trained.
benchmarks: $(VENV)/.dev-installed
	for name in rasterize models loader simulate catalog; do $(BIN)/python benchmarks/$$name.py || exit 1; done

# The tests with the oldest versions that pyproject.toml allows; without lsdb, which asks for newer ones.
test-lowest: $(VENV)/.dev-installed
	$(BIN)/pip install -q uv
	$(BIN)/uv venv -q --allow-existing $(VENV)-lowest
	$(BIN)/uv pip install -q --python $(VENV)-lowest/bin/python --resolution lowest-direct -e '.[dev,sami,slurm,sweep,wandb]'
	$(VENV)-lowest/bin/python -m pytest -n auto

clean:
	rm -rf build dist docs/_build src/*.egg-info

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install -q $(TORCH) -e '.[train]'
	touch $@

$(VENV)/.dev-installed: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install -q $(TORCH) -e '.[dev,sami,slurm,sweep,wandb,lsdb]'
	touch $@ $(VENV)/.installed

$(VENV)/.docs-installed: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install -q $(TORCH) -e '.[dev,sami,slurm,sweep,wandb,lsdb,docs]'
	touch $@ $(VENV)/.dev-installed $(VENV)/.installed
