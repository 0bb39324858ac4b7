# Every way to work on the project; `make` alone lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
UV := .cache/uv/bin/uv
BIN := .venv/bin
INSTALLED := .venv/.installed
AUDITS := tests/contracts/node
NPM_INSTALLED := $(AUDITS)/node_modules/.installed
PORT ?= 8000
FUZZ_EXAMPLES ?= 500
# Many tests wait, for a peer or a process that they killed: more than there are processors.
TEST_PROCESSES ?= 3
# Compiled once, and not by each of the processes that are started here.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run test fuzz audit check lint types contracts lock drift bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(INSTALLED) ## Make the environment in .venv, from hashes

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed; name it with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv .cache/uv
	@.cache/uv/bin/python -m pip install --quiet --disable-pip-version-check uv

$(INSTALLED): requirements.lock pyproject.toml | $(UV)
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

run: $(INSTALLED) ## Start everything, with a ranked demo, on PORT (8000)
	@exec $(BIN)/gero up --port $(PORT)

test: $(INSTALLED) ## Run the whole suite
	@$(BIN)/pytest -n $(TEST_PROCESSES) --dist worksteal

fuzz: $(INSTALLED) ## Compare both GraphQL executors on FUZZ_EXAMPLES (500) new schemas
	@FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest -n 2 tests/compiled_graphql/test_differential.py \
		tests/compiled_graphql/test_product.py

audit: $(INSTALLED) $(NPM_INSTALLED) ## Run public linters and conformance suites (needs Node)
	@$(BIN)/pytest -n 2 -m audit

$(NPM_INSTALLED): $(AUDITS)/package.json $(AUDITS)/package-lock.json $(AUDITS)/.npmrc
	@npm ci --prefix $(AUDITS) --ignore-scripts --silent
	@touch $@

check: lint types contracts test audit ## Run everything that CI runs

lint: $(INSTALLED) ## Check style
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(INSTALLED) ## Check types, twice
	@$(BIN)/mypy
	@$(BIN)/pyright

contracts: $(INSTALLED) ## Check the import contracts
	@$(BIN)/lint-imports --no-cache

drift: $(INSTALLED) ## Write schema.graphql, openapi.yaml and docs/reference anew
	@$(BIN)/gero export-schema > schema.graphql
	@$(BIN)/gero export-openapi > openapi.yaml
	@$(BIN)/python -m app.reference
	@UPDATE_README=1 $(BIN)/pytest tests/compiled_graphql/test_readme.py

lock: $(UV) ## Pin the newest versions that pyproject.toml admits
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links \
		--group pyproject.toml:dev pyproject.toml --output-file requirements.lock

bench: $(INSTALLED) ## Measure, as ratios to references in the same run
	@$(BIN)/python -m bench.run_overhead
	@$(BIN)/python -m bench.run_memory
	@$(BIN)/python -m bench.run_faults
	@$(BIN)/python -m bench.push
	@$(BIN)/python -m bench.http_client
	@$(BIN)/python -m bench.http_client --concurrency 32
	@$(BIN)/python -m bench.inference
	@$(BIN)/python -m bench.inference_faults
	@$(BIN)/python -m bench.consolidation
	@$(BIN)/python -m bench.statistics
	@$(BIN)/python -m bench.racing
	@$(BIN)/python -m bench.promotion
	@$(BIN)/python -m bench.rollouts
	@$(BIN)/python -m bench.graphql_compile
	@$(BIN)/python -m bench.graphql
	@$(BIN)/python -m bench.traces --traces 1000000

clean: ## Remove what was made, but not data
	@rm -rf .venv .cache dist $(AUDITS)/node_modules
