# Everything a person types: make demo, make test, make install. Each target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: all build lint test clean

all: build

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml setup.py | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check setuptools wheel cffi
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[viewer,test]'
	touch $@

build: $(VENV)/.installed
	$(BIN)/python setup.py --quiet build_ext --inplace
