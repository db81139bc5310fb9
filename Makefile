# make demo    a first run, from a sample spec to the printed result
# make test    the tests;  TESTS=tests/core or PYTEST_ARGS='-m "not slow"' narrow them, PYTEST_ARGS='-m exhaustive' runs what they leave out
# make test-slurm   sweeps on a Slurm of two virtual nodes: needs slurm-wlm, munge and root, and says so where they are missing
# make coverage   the tests once more, and which lines and branches they reach: a table, and pages in build/coverage
# make check   style, types, layers, and that generated files are fresh
# make environment   the environment alone
# make docs    write the generated files anew
# make site    the documentation as a site in site/, with figures made anew; warnings are errors
# make clean   remove environments, caches and builds; results/ stays
#
# Everything runs in $(VENV), made with $(PYTHON) and filled again only when pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV ?= .venv
DEMO ?= packing
TESTS ?=
PYTEST_ARGS ?=

SHELL := /bin/bash
BIN := $(VENV)/bin
VERSION_OF := -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])'
VERSION := $(shell $(PYTHON) $(VERSION_OF) 2>/dev/null)
# The stamps carry Python's version: another PYTHON makes the environment anew.
TEST := $(VENV)/.test-$(VERSION)
DEV := $(VENV)/.dev-$(VERSION)
SITE := $(VENV)/.site-$(VERSION)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo environment test test-slurm coverage check docs site clean venv
.NOTPARALLEL:

demo: $(TEST)
	$(BIN)/implicit run sample_inputs/$(DEMO).yaml -o results/$(DEMO).h5
	$(BIN)/implicit show results/$(DEMO).h5

environment: $(TEST)

test: $(TEST)
	$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST_ARGS) $(TESTS)

test-slurm: $(TEST)
	$(BIN)/python -m pytest -m slurm -rs $(PYTEST_ARGS) tests/slurm

coverage: $(TEST)
	$(PIP) pytest-cov
	$(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report=term-missing:skip-covered --cov-report=html:build/coverage $(PYTEST_ARGS) $(TESTS)

check: $(DEV)
	$(BIN)/python -m ruff check --quiet .
	$(BIN)/python -m ruff format --check --quiet .
	$(BIN)/python -m mypy --no-error-summary
	@log=$$($(BIN)/lint-imports 2>&1) || { echo "$$log"; exit 1; }
	@$(BIN)/python docs/generate.py --check
	@echo "check: style, types, layers and generated files are good"

docs: $(TEST)
	$(BIN)/python docs/generate.py

# The variable is for a notice on the future of MkDocs. No --quiet: it hides warnings from `strict`, too.
site: $(SITE)
	@$(BIN)/python docs/gallery.py build/gallery
	@log=$$(NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build 2>&1) || { echo "$$log"; exit 1; }
	@echo "site: open site/index.html"

clean:
	rm -rf $(VENV) .venv .venv-newest build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Where the environment is missing or of another Python, nothing in it counts.
ifneq ($(shell $(BIN)/python $(VERSION_OF) 2>/dev/null || echo none),$(VERSION))
$(TEST) $(DEV) $(SITE): venv
endif

$(TEST): pyproject.toml constraints.txt
	$(PIP) -e '.[test]'
	@touch $@

$(DEV): pyproject.toml constraints.txt
	$(PIP) -e '.[test,dev]'
	@touch $(TEST) $@

$(SITE): pyproject.toml constraints.txt
	$(PIP) -e '.[test,docs]'
	@touch $(TEST) $@

# Replaces an environment; never touches a folder that is none.
venv:
	@case "$(VERSION)" in \
	    3.11.*|3.12.*|3.13.*) ;; \
	    "") echo "make: PYTHON=$(PYTHON) does not run; implicit needs Python 3.11, 3.12 or 3.13: make ... PYTHON=/path/to/python" >&2; exit 1 ;; \
	    *) echo "make: PYTHON=$(PYTHON) is $(VERSION); implicit needs Python 3.11, 3.12 or 3.13: make ... PYTHON=python3.11" >&2; exit 1 ;; \
	esac
	@if [ -e "$(VENV)" ] && [ ! -e "$(VENV)/pyvenv.cfg" ]; then \
	    echo "make: VENV=$(VENV) exists and is no virtual environment: choose another folder" >&2; exit 1; fi
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "make: PYTHON=$(PYTHON) has no venv module: install it (Debian: python3-venv), or choose another PYTHON" >&2; exit 1; }
	@echo "making $(VENV) with Python $(VERSION)"
	@$(PYTHON) -m venv --clear "$(VENV)"
