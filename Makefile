# make setup | demo [DATA=file.parquet] | check | test | bench
PYTHON ?= python3
BIN := .venv/bin
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: setup demo check test nightly bench

setup: .venv/ready

.venv/ready: pyproject.toml client/pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ./client -e ".[dev]"
	touch $@

demo: .venv/ready
	$(BIN)/python examples/demo.py $(DATA)

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_imports.py

test: .venv/ready
	$(BIN)/python -m pytest -q

nightly: .venv/ready
	$(BIN)/python -m pytest -q -m nightly

bench: .venv/ready
	$(BIN)/python -m benchmarks
