# Two commands do everything on a machine with python3, pip and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.2

.PHONY: demo test lint validate tables bench clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev,notebooks]' --constraint constraints.txt
	touch $@

demo: .venv/installed
	$(BIN)/python -m experiments.simulate --config=experiments/configs/simulate.py --workdir=runs/demo

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint
	$(BIN)/pytest -n 2 --dist loadfile

validate: .venv/installed
	$(BIN)/python -m experiments.validate $(CASE)

tables: .venv/installed
	$(BIN)/python -m experiments.tables

.venv-bench/installed: pyproject.toml
	$(PYTHON) -m venv .venv-bench
	-.venv-bench/bin/pip install --quiet torch==2.13.0
	.venv-bench/bin/pip install --quiet --editable '.[bench]'
	touch $@

bench: .venv-bench/installed
	.venv-bench/bin/python -m experiments.bench.run

clean:
	rm -rf .venv .venv-bench .cache build dist runs
