# Every target sets up what it needs. `make demo` and `make test` are all that a newcomer has to know.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Where it is set, each of the hundred processes that tests start compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE
# Several processes share the cores already, and linear algebra on more threads would wait for its turn by spinning.
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest
# Half of a test's time is spent waiting for servers and processes, so two cores keep three workers busy.
WORKERS ?= 3
SLOW_WORKERS ?= 3

.PHONY: help setup demo test test-slow attack requirements lint format docs dist triton-repo clean

help:
	@echo "make demo       clips -> train -> export -> serve on a real Triton -> predict -> benchmark"
	@echo "make test       the fast tests"
	@echo "make test-slow  the slow tests: what takes seconds, ImageNet weights, real clips where they are at hand"
	@echo "make attack     every known attack, on this machine alone: held or fell"
	@echo "make lint       ruff and mypy"
	@echo "make requirements renew requirements.txt, the hashes of constraints.txt; needs uv"
	@echo "make docs       the documentation site, in build/site"
	@echo "make dist       wheel and source distribution, in dist/"
	@echo "make triton-repo renew the configuration that triton_repo/ shows"
	@echo "make clean      remove what was built; caches of weights and features stay"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "vdeploy needs Python 3.10 to 3.13; choose one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@# Python compiles what is imported; all of it would take as long as the installation.
	$(BIN)/python -m pip install --no-compile --progress-bar on -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(READY)

demo: $(READY)
	$(BIN)/python -m vdeploy.demo demo

test: $(READY)
	$(PYTEST) -n $(WORKERS) --dist worksteal

test-slow: $(READY)
	$(PYTEST) -n $(SLOW_WORKERS) --dist worksteal -m slow --timeout 2400 --durations 25

attack: $(READY)
	$(BIN)/python -m benchmarks.attacks

# The versions come from constraints.txt; uv asks the package index for their hashes.
requirements:
	mkdir -p build
	uv pip compile --quiet --universal --python-version 3.10 --all-extras --no-header --generate-hashes \
		-c constraints.txt pyproject.toml -o build/hashed.txt
	{ head -2 requirements.txt; grep -v '^    #   -c constraints.txt$$' build/hashed.txt; } > requirements.new
	mv requirements.new requirements.txt

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(BIN)/python -m mkdocs build --strict

dist: $(READY)
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

triton-repo: $(READY)
	$(BIN)/python -m testing.example_repository triton_repo

clean:
	rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
