# Everything a person types: make demo, make test, make install. Each target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: all build lint test unit sanitize fuzz e2e clean

all: build

$(BIN)/python:
	scripts/setup-packages build
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml setup.py | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check setuptools wheel cffi
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[viewer,bench,test]'
	touch $@

build: $(VENV)/.installed
	$(BIN)/python setup.py --quiet build_ext --inplace
	$(BIN)/python -m compileall -q protocol backend vhost_gpu frontend

# ---- the demo: a real guest's screen in the viewer ----------------------------------------------------------------

.PHONY: demo guest
demo: build
	scripts/setup-packages demo
	$(BIN)/python scripts/demo

guest:
	scripts/setup-packages guest
	scripts/build-guest demo

# ---- tests: make test runs all of them and sets up what they need -------------------------------------------------

PYTEST := $(BIN)/python -m pytest
FUZZ_SECONDS ?= 60

test: test-packages lint unit sanitize fuzz e2e

.PHONY: test-packages
test-packages:
	scripts/setup-packages test

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Everything but the real guests; once on uvloop, once on plain asyncio in debug mode.
unit: build
	VHOST_GPU_TEST_LOOP=uvloop $(PYTEST) -q -m "not e2e"
	VHOST_GPU_TEST_LOOP=asyncio $(PYTEST) -q -m "not e2e and not systemd" tests/vhost_gpu tests/test_replay.py

sanitize: build
	PYTHON=$(CURDIR)/$(BIN)/python tests/sanitize

fuzz:
	fuzz/run $(FUZZ_SECONDS)
	FUZZ_TARGET=fuzz_render fuzz/run $(FUZZ_SECONDS)

e2e: build
	$(PYTEST) -q -m e2e

# Not part of make test: some hundred tests of OpenGL in a guest, against a list of their results.
.PHONY: piglit
piglit: build
	scripts/setup-packages demo
	$(BIN)/python tests/piglit/run

clean:
	rm -rf build $(VENV) .guest *.egg-info backend/_core*.so backend/_core.c backend/_virgl*.so backend/_virgl.c \
		vhost_gpu/bench/_loop*.so vhost_gpu/bench/_loop.c vhost_gpu/bench/_direct*.so vhost_gpu/bench/_direct.c

include systemd/install.mk
