# Two commands do everything on a machine with python3, pip and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.2

.PHONY: demo test lint validate tables bench clean

# Debian and Ubuntu split ensurepip off; there the pip of $(PYTHON) brings pip into the environment.
define create
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(1) || { $(PYTHON) -m venv --clear --without-pip $(1) \
		&& $(PYTHON) -m pip --python $(1)/bin/python install pip; }
endef

.venv/installed: pyproject.toml constraints.txt
	$(call create,.venv)
	$(BIN)/python -m pip install --quiet --editable '.[dev,notebooks]' --constraint constraints.txt
	touch $@

demo: .venv/installed
	$(BIN)/python -m experiments.motionphysics --config=experiments/configs/motionphysics.py --workdir=runs/demo

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint
	$(BIN)/pytest -n 2 --dist loadfile

validate: .venv/installed
	$(BIN)/pytest -n 2 --dist loadfile --long
	$(BIN)/python -m experiments.validate $(CASE)

tables: .venv/installed
	$(BIN)/python -m experiments.tables

# One peer at a time: one that cannot be installed here is named, and the others are still measured.
PEERS = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"], sep="\n")

.venv-bench/installed: pyproject.toml constraints.txt
	$(call create,.venv-bench)
	.venv-bench/bin/python -m pip install --quiet --editable . --constraint constraints.txt
	@.venv-bench/bin/python -c '$(PEERS)' | while read -r peer; do \
		.venv-bench/bin/python -m pip install --quiet "$$peer" </dev/null || echo "no $$peer on this machine"; \
	done
	touch $@

# make bench BENCH=mpm for one of them
bench: .venv-bench/installed
	.venv-bench/bin/python -m experiments.bench.run $(BENCH)

clean:
	rm -rf .venv .venv-bench .cache build dist runs
