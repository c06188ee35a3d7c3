# Everything runs in an environment of its own, .venv, made on first use and kept.
# Another interpreter: make demo PYTHON=python3.12 (after `make clean`, if .venv is there already).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

EXTRAS_demo := progress,plots
EXTRAS_dev := dev,progress,plots
EXTRAS_bench := bench,progress,plots

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-long lint format bench bench-queries bench-full clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/demo.stamp ## build the graph of 10,000 pictures, print its recall, draw it
	$(BIN)/distnnd demo

test: lint ## lint, types, and every test that takes less than a minute
	$(BIN)/python -m pytest -m "not long" -n auto --maxprocesses 4 --dist worksteal

test-long: $(VENV)/dev.stamp ## the tests that take more than a minute
	$(BIN)/python -m pytest -m long

lint: $(VENV)/dev.stamp ## ruff and mypy, nothing is changed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp ## let ruff put the files in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/bench.stamp ## distnnd beside its peers, on the same work, in under ten minutes
	$(BIN)/python -m benchmarks.run

bench-queries: $(VENV)/bench.stamp ## answers to rows never seen, beside PyNNDescent, hnswlib and faiss; ten minutes
	$(BIN)/python -m benchmarks.queries

bench-full: $(VENV)/bench.stamp ## the same at more settings, and a million rows; takes an hour
	$(BIN)/python -m benchmarks.run --full

clean: ## remove .venv, caches and the demo's output (benchmark data stay)
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp says: these extras of pyproject.toml are installed. It is renewed when pyproject.toml changes.
$(VENV)/%.stamp: $(VENV)/made pyproject.toml
	@echo "Installing distnnd[$(EXTRAS_$*)] into $(VENV); the first time this takes a minute or two."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS_$*)]"
	@touch $@

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "distnnd needs Python 3.11 or newer, but '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)"; \
	  echo "Name another one, for example: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
