# Everything runs in .venv, which the first target that needs it creates.
# PYTHON names the interpreter to create it with (3.10 or newer, with venv).

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	"$$p" -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
EXAMPLES := $(wildcard examples/*.dnn)

.DEFAULT_GOAL := help
.PHONY: help demo test slow peers lint types format docs grammar examples dist clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

demo: $(VENV)/.installed ## install dnnc into .venv, train a network on handwritten digits
	$(BIN)/dnnc run examples/digits.dnn

test: $(VENV)/.dev ## run the tests
	$(BIN)/python -m pytest

slow: $(VENV)/.dev ## run the tests that take longer
	$(BIN)/python -m pytest -m 'slow and not peers'

peers: $(VENV)/.peers ## compare with PyTorch
	$(BIN)/python -m pytest -m peers

lint: $(VENV)/.dev ## check layout and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@if ls examples/*.dnn >/dev/null 2>&1; then $(BIN)/dnnc fmt --check examples dnnc; fi

types: $(VENV)/.dev ## check the types
	$(BIN)/mypy

format: $(VENV)/.dev ## lay out Python and .dnn files
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/dnnc fmt examples dnnc

docs: $(VENV)/.dev ## rewrite the pages that are made from the code
	$(BIN)/python docs/generate.py

grammar: $(VENV)/.dev ## make the parser's tables anew
	$(BIN)/python -m dnnc.syntax.tables

examples: $(VENV)/.installed ## run every example
	.ci/examples $(BIN)/dnnc

dist: $(VENV)/.dev ## build the wheel and the source archive
	$(BIN)/python -m build --outdir dist .

clean: ## remove what the targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache

# Stamps: an install is repeated only when pyproject.toml has changed.

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "dnnc needs Python 3.10 or newer with venv; set PYTHON" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) install --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) install --editable '.[dev,images,parquet]'
	@touch $@

$(VENV)/.peers: $(VENV)/.dev
	$(PIP) install --editable '.[peers]'
	@touch $@
