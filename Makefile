PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TORCH_INDEX ?=
CPU_INDEX := https://download.pytorch.org/whl/cpu
PYTEST := $(BIN)/python -m pytest -q -rs
SIDE_BY_SIDE := -n auto --dist loadfile --no-loadscope-reorder
LOWEST := .venv-lowest/bin

.DEFAULT_GOAL := help
.PHONY: help venv demo test quick test-system test-all coverage lint docs bench bench-quick bench-workers bench-scale containers lowest dist clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

venv: $(STAMP)  ## create .venv from the lock file constraints.txt

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifeq ($(TORCH_INDEX),)
	@echo "torch comes from the usual index; on Linux with CUDA libraries, 5.8 GB where that is PyPI. For CPUs alone:"
	@echo "    make $(or $(MAKECMDGOALS),venv) TORCH_INDEX=$(CPU_INDEX)"
	$(PIP) torch==2.13.0
else
	$(PIP) --no-deps --index-url $(TORCH_INDEX) torch==2.13.0
endif
	$(PIP) -e '.[test,dev,docs]'
	touch $@

demo: $(STAMP)  ## a self-contained demonstration on synthetic events, with pictures and the truth
	$(BIN)/mms-regions demo

lint: $(STAMP)  ## ruff, its formatter, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(STAMP)  ## lint, types, unit, parity and the quick integration tests
	$(MAKE) --no-print-directory --jobs 2 lint quick

quick: $(STAMP)
	$(PYTEST) $(SIDE_BY_SIDE) -m "not system and not long" --timeout 300

test-system: docs bench-quick  ## SLURM, containers, browser, kills, quick benchmarks, documentation
	$(PYTEST) $(SIDE_BY_SIDE) -m "system and not long" --timeout 600

test-all: lint docs bench-quick  ## lint and every test, those that take many minutes too
	$(PYTEST) --timeout 1800

coverage: $(STAMP)  ## which lines the tests of `make test` run, in build/coverage
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run -m pytest -q $(SIDE_BY_SIDE) -m "not system and not long" --timeout 900
	$(BIN)/coverage combine --quiet && $(BIN)/coverage html --quiet && $(BIN)/coverage report --skip-covered

docs: $(STAMP)  ## the documentation site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(STAMP)  ## the benchmarks, ten minutes
	$(BIN)/python benchmarks/run.py

bench-quick: $(STAMP)  ## the same on little data, so that they cannot rot
	$(BIN)/python benchmarks/run.py --quick >/dev/null

bench-workers: $(STAMP)  ## how many workers one driver keeps busy, by simulation, five minutes
	$(BIN)/python benchmarks/many_workers.py

bench-scale: $(STAMP)  ## ten thousand segments, a quarter of an hour or more
	$(BIN)/python benchmarks/scale.py

containers: $(STAMP)  ## build all images and run them, ten minutes
	PYTHON=$(BIN)/python tests/containers.sh all

# torch stays: an older one brings gigabytes of CUDA packages.
lowest:  ## unit and parity tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/python -m pip install --quiet --disable-pip-version-check --no-deps torch==2.13.0
	echo torch==2.13.0 | $(LOWEST)/uv pip install --quiet --python $(LOWEST)/python --resolution lowest-direct -c - -e '.[test]'
	$(LOWEST)/python -m pytest -q -rs -m "not system and not long" --timeout 600 tests/unit tests/parity

dist: $(STAMP)  ## the release: sdist and wheel in dist, checked, and tried in a new environment
	PYTHON=$(BIN)/python TORCH_INDEX=$(TORCH_INDEX) tests/dist.sh

clean:  ## remove .venv, caches and builds
	rm -rf $(VENV) .venv-lowest .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find pipeline tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
