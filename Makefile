# Tidemill's commands. `make` lists them. Nothing here needs root, uv, Docker (except where a line says so) or Redis.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
ARGS ?=
SOURCES := conftest.py contracts shared services tests deploy
TYPED := contracts/src contracts/generate.py contracts/generation contracts/compatibility.py shared/src $(wildcard services/*/src)
# What others import or are compared with; serving_all.py and monitoring_all.py run what is there already
PARTS := %/aims.py %/bare_script.py %/http_peers.py %/serving_peers.py %/serving_latency.py %/serving_process.py %/serving_all.py %/monitoring_all.py
BENCHMARKS := $(filter-out $(PARTS),$(wildcard tests/benchmarks/*.py))
MANIFESTS := requirements.lock pyproject.toml contracts/pyproject.toml shared/pyproject.toml $(wildcard services/*/pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format contracts clients lock up down chaos fuzz audit sbom bench acceptance bench-serving bench-monitoring bench-peers clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with every package, pinned and hash-checked (Python ≥ 3.11)

$(STAMP): $(MANIFESTS) .ci/setup
	@.ci/setup $(VENV)
	@touch $@

demo: $(STAMP) ## Replay 137 baseball seasons through the whole loop (ARGS=--json for one JSON object)
	@$(BIN)/tidemill demo $(ARGS)

test: $(STAMP) ## Run every test on a real Redis and a real S3 server (ARGS="-k name" selects)
	$(BIN)/pytest --numprocesses logical --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(STAMP) ## Lint, format, types, imports, generated files, compatibility, known vulnerabilities
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports
	$(BIN)/python contracts/generate.py --check
	$(BIN)/python contracts/compatibility.py
	@.ci/audit $(BIN)/python

format: $(STAMP) ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

contracts: $(STAMP) ## Generate schemas, AsyncAPI, .env.example and the tables in the READMEs
	$(BIN)/python contracts/generate.py

clients: $(STAMP) ## Let Triton's client speak to serving (installs it in an environment of its own; needs the network)
	TIDEMILL_INSTALL_CLIENTS=1 $(BIN)/pytest -q services/serving/tests/test_serving_client.py

lock: $(STAMP) ## Resolve requirements.lock again (needs the network; installs uv in a folder of its own)
	@.ci/lock $(BIN)/python

up: $(STAMP) ## Start the embedded stack (ARGS for `tidemill up`)
	@$(BIN)/tidemill up $(ARGS)

down: $(STAMP) ## Stop the embedded stack; what it stored stays
	@$(BIN)/tidemill down $(ARGS)

chaos: $(STAMP) ## Break everything while it works, and check that nothing was lost (an hour; ARGS=--short)
	@$(BIN)/python tests/chaos/run.py $(ARGS)

FUZZED := tests/contract/test_fuzz_events.py tests/contract/test_http_surfaces.py services/serving/tests/test_serving_openapi.py services/serving/tests/test_serving_fuzz.py

fuzz: $(STAMP) ## Send 12,000 spoilt requests, 12,000 of schemathesis's, 12,000 spoilt events (ARGS for pytest)
	TIDEMILL_FUZZ_CASES=12000 $(BIN)/pytest -s --show-capture=no $(FUZZED) $(ARGS)

audit: $(STAMP) ## Known vulnerabilities of what the lock pins (says so where their database cannot be reached)
	@.ci/audit $(BIN)/python

sbom: $(STAMP) ## What the system is made of, as CycloneDX: sbom.cdx.json (needs the network)
	@.ci/sbom $(BIN)/python sbom.cdx.json

bench: $(STAMP) ## Run the benchmarks under tests/benchmarks, one after the other
	@set -e; for file in $(BENCHMARKS); do echo "== $$file"; $(BIN)/python "$$file" $(ARGS); done

acceptance: $(STAMP) ## Streams whose concepts change, through the loop and beside other policies (ARGS="--twin" offline)
	@$(BIN)/python tests/acceptance/run.py $(ARGS)

bench-serving: $(STAMP) ## Serving beside its limits: stream, tables, swap, many pipelines, HTTP (minutes; ratios on the last line)
	@$(BIN)/python tests/benchmarks/serving_all.py $(ARGS)

bench-monitoring: $(STAMP) ## A window check beside other libraries (under .peers), and false alarms (minutes; ratios on the last line)
	@$(BIN)/python tests/benchmarks/monitoring_all.py $(ARGS)

bench-peers: $(STAMP) ## The same beside what else people use, each in an environment of its own under .peers
	@$(BIN)/python tests/benchmarks/serving_all.py --peers $(ARGS)

clean: ## Remove .venv, caches and builds; data of `make up` stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find contracts shared services tests deploy -name __pycache__ -type d -prune -exec rm -rf {} +
	find contracts shared services -name dist -type d -prune -exec rm -rf {} +
