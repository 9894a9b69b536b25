PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest -q -rs

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all lint bench bench-quick bench-scale containers clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

venv: $(STAMP)  ## make .venv from the lock file constraints.txt

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e '.[test,dev]'
	touch $@

demo: $(STAMP)  ## the whole line on synthetic events, with pictures and the truth
	$(BIN)/mms-regions demo

lint: $(STAMP)  ## ruff, its formatter, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint bench-quick  ## lint, every test that is quick, and a quick form of the benchmarks
	$(PYTEST) -n auto --dist loadfile --no-loadscope-reorder -m "not long" --timeout 300

test-all: lint  ## lint and every test
	$(PYTEST) --timeout 1800

bench: $(STAMP)  ## the benchmarks, ten minutes
	$(BIN)/python benchmarks/run.py

bench-quick: $(STAMP)  ## the same on little data, so that they cannot rot
	$(BIN)/python benchmarks/run.py --quick >/dev/null

bench-scale: $(STAMP)  ## ten thousand segments, a quarter of an hour or more
	$(BIN)/python benchmarks/scale.py

containers: $(STAMP)  ## build all images and run them, ten minutes
	PYTHON=$(BIN)/python tests/containers.sh all

clean:  ## remove .venv, caches and builds
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find pipeline tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
