# Sets up what it needs: `make serve` and `make test` work on a fresh machine with Python 3.11 or later.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The versions that were tested: `make lock` writes them anew.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt

# glibc's allocator gives memory back to the system after each batch and asks for it again: a fifth of the time.
FAST_MALLOC := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000

# As `lint-imports`, without the finder of our editable installation, by which this whole folder lies in spikehead.
define LINT_IMPORTS
import sys
from importlinter.cli import lint_imports_command
sys.meta_path = [finder for finder in sys.meta_path if type(finder).__module__ != "_editable_skbc_spikehead"]
sys.path[:0] = ["service", "."]
lint_imports_command(["--no-logo"])
endef
export LINT_IMPORTS

NPM ?= $(shell command -v npm)
CPP := $(wildcard service/spikehead/engine/native/src/*.cpp service/spikehead/engine/native/src/*.hpp)
BIOME := node_modules/.bin/biome

define SAY_ENGINE
from spikehead.engine import native
print("native engine: built" if native.available() else "native engine: not built (no C++ compiler, or the build failed); "
      "onnxruntime runs. To try again: install g++, then `make clean serve`; for the reason: `.venv/bin/pip install -v -e .`")
endef
export SAY_ENGINE

.PHONY: help serve setup test quick check check-code check-layers check-page audit lock format train bench stress sanitize clean

help:
	@echo "make serve   set up and serve on http://127.0.0.1:8000"
	@echo "make setup   set up all: service, training, tests"
	@echo "make test    set up and run all tests"
	@echo "make quick   what a change to the service needs most often, in about a minute: format, lint, quick tests"
	@echo "make check   format, lint, types, known vulnerabilities, and tests"
	@echo "make train   train and export the shipped model (hours on two cores; replaces models/spiking-mha)"
	@echo "make bench   the engine against others, and the latency of each phase of a request"
	@echo "make stress  what the service withstands: overload, slow clients, kills, a soak (12 minutes, nothing else running)"
	@echo "make sanitize  the native engine's tests with sanitizers"
	@echo "make lock    write constraints.txt anew: the newest versions that go together"
	@echo "make format  format the code"
	@echo "make clean   remove the virtual environment and caches"

serve: $(VENV)/.serve
	$(BIN)/spikehead serve

setup: $(VENV)/.check

test: $(VENV)/.check
	$(BIN)/python -m pytest

# All of tests/service but what is marked slow and what takes longest: it starts services, kills processes, or sends
# hundreds of pictures. `make test` runs that too.
QUICK_WITHOUT := server records/test_crowd.py records/test_kill.py telemetry/test_logs.py telemetry/test_traces.py \
	web/test_contract.py pictures/test_drawings.py cli/test_app.py cli/test_classify.py

quick: $(VENV)/.check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m pytest --quiet -m 'not slow' $(QUICK_WITHOUT:%=--ignore=tests/service/%) tests/service

check: check-code audit test

check-code: $(VENV)/.check check-layers $(if $(NPM),check-page)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $(CPP)
	$(BIN)/mypy
	@test -n "$(NPM)" || echo "npm is not installed: the page's scripts are not checked"

check-layers: $(VENV)/.check
	@$(BIN)/python -c "$$LINT_IMPORTS"

check-page: $(BIOME)
	$(BIOME) ci --error-on-warnings

# Packages with known vulnerabilities. Needs the network; where the index does not know a package, that is said.
audit: $(VENV)/.check
	$(BIN)/pip-audit --local --skip-editable --progress-spinner off

# One file for every Python from 3.11 on and every system. pip is no constraint to itself.
lock: $(VENV)/.python
	$(BIN)/python -m pip --disable-pip-version-check --quiet install uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra check --no-annotate \
		--no-emit-package pip --no-emit-package setuptools --custom-compile-command 'make lock' \
		--output-file constraints.txt pyproject.toml

format: $(VENV)/.check $(if $(NPM),$(BIOME))
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(CPP)
	$(if $(NPM),$(BIOME) check --write)

train: $(VENV)/.check
	$(FAST_MALLOC) $(BIN)/python -m training teacher
	$(FAST_MALLOC) $(BIN)/python -m training train --teacher runs/teacher/teacher.pt
	$(BIN)/python -m training export
	$(BIN)/python -m training evaluate models/spiking-mha

bench: $(VENV)/.check
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.load

stress: $(VENV)/.check
	$(BIN)/python -m benchmarks.stress

# The native engine with the address and undefined-behaviour sanitizers, and its tests on it.
sanitize: $(VENV)/.check
	$(PIP) --no-deps --config-settings=cmake.define.SPIKEHEAD_SANITIZE=ON --editable .
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 $(BIN)/python -m pytest tests/test_native.py; \
		status=$$?; $(PIP) --no-deps --editable . && exit $$status

clean:
	rm -rf $(VENV) build node_modules .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# Each stamp says that what it names is installed, for this pyproject.toml.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11)' 2>/dev/null || { \
		echo "expected Python 3.11 or later as '$(PYTHON)' (set PYTHON), found: $$($(PYTHON) --version 2>&1)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

# It checks and formats the page's scripts, which need no package themselves.
$(BIOME): package.json package-lock.json
	$(NPM) ci --no-audit --no-fund --silent
	touch $@

NATIVE := CMakeLists.txt service/spikehead/model/retina.py $(CPP)
# An installation from here remembers where each module lies: it is made again where files came or went.
FOLDERS := $(shell find service training -type d ! -name __pycache__)
COMPILE := $(BIN)/python -m compileall -q service training

$(VENV)/.serve: $(VENV)/.python pyproject.toml constraints.txt $(NATIVE) $(FOLDERS)
	@echo "setting up the service (once, some minutes; nothing is printed while the engine is compiled)"
	$(PIP) --editable '.[figures]'
	@$(COMPILE)
	@$(BIN)/python -c "$$SAY_ENGINE"
	touch $@

# torch first and by name: this takes the CPU build where the package index has one.
$(VENV)/.check: $(VENV)/.python pyproject.toml constraints.txt $(NATIVE) $(FOLDERS)
	@echo "setting up service, training and tests (once, a few minutes)"
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[check]'
	@$(COMPILE)
	@$(BIN)/python -c "$$SAY_ENGINE"
	touch $@ $(VENV)/.serve
