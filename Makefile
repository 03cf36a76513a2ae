# The usual tasks. `make demo` and `make test` need only Python 3.11+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# An older pip warns about a package without pyproject.toml, unless it builds it as one that has it.
INSTALL := $(BIN)/python -m pip install --quiet --use-pep517 --editable
# tests/conftest.py chooses the number of processes and the order of files. Each file runs in one process, with
# its servers.
PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder

# Compiling the tests takes longer than importing them, so keep the compiled files.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check docs docs-serve docs-reference docs-pictures release-check release-lists bench chaos clean

demo: $(VENV)/embedded
	$(BIN)/relay demo

test: $(VENV)/dev
	$(BIN)/python -m pytest $(PARALLEL)

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest $(PARALLEL)

# The site of the documentation, in build/site. A link that leads nowhere stops it.
docs: $(VENV)/docs
	$(BIN)/python -m testing.reference.site
	$(BIN)/zensical build --clean --strict

# The same site at http://localhost:8000. Call `make docs` again to see a change.
docs-serve: docs
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site 8000

# Writes the parts of docs/ that are made from the code. A test fails until they agree.
docs-reference: $(VENV)/dev
	$(BIN)/python -m testing.reference

# Takes the pictures of the documentation again: of the console, and of `relay demo` in a terminal.
docs-pictures: $(VENV)/dev
	RELAY_PICTURES=docs/images $(BIN)/python -m pytest -q tests/e2e/test_console.py -k picture
	$(BIN)/python -m testing.recording docs/images/demo.svg

# About 12 minutes. Compares relay with other queues, which `bench/peers/install` installs. See docs/explanation/performance.md
bench: $(VENV)/dev
	$(BIN)/python -m bench --json build/bench.json --plots build/bench $(BENCH)

# 10 minutes, 200,000 messages: `make chaos CHAOS='--seed 7 --topology all'`, see docs/explanation/reliability.md
chaos: $(VENV)/dev
	$(BIN)/python -m chaos $(CHAOS)

# Builds a release into build/release, and tries it with every supported Python that is here: docs/how-to/release.md
release-check: $(VENV)/release
	$(BIN)/python -m release check

# Writes the pinned versions of the libraries, and the page of their licences.
release-lists: $(VENV)/release
	$(BIN)/python -m release lists

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/embedded: pyproject.toml | $(BIN)/python
	$(INSTALL) '.[embedded]'
	touch $@

$(VENV)/dev: pyproject.toml | $(BIN)/python
	$(INSTALL) '.[dev]'
	touch $@ $(VENV)/embedded

$(VENV)/docs: pyproject.toml | $(BIN)/python
	$(INSTALL) '.[docs]'
	touch $@

$(VENV)/release: pyproject.toml | $(BIN)/python
	$(INSTALL) '.[release]'
	touch $@ $(VENV)/dev $(VENV)/embedded
