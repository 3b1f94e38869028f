# `make help` lists the targets. Everything runs in .venv, which `make install` creates.
SHELL := /bin/sh
PYTHON ?= python3
REPO ?= .
PY := .venv/bin/python
FLOOR := 90
# Processes that run the tests. Each uses about 60 % of a core, because tests also wait: 3 make full use of two cores.
WORKERS ?= 3
# Names the commit in the results of test runs, which `make readiness` reads.
COMMIT = $(shell git rev-parse --short=12 HEAD 2>/dev/null)
RESULTS = -o junit_suite_name=$(COMMIT) --junitxml
# Passed literally and through the environment: neither make nor the shell must interpret a $ or a quote in the path.
override REPO := $(value REPO)
export PYTHON REPO

.DEFAULT_GOAL := help
.PHONY: help install dev run up down test test-containers coverage drills check audit sbom docs bench bench-baseline readiness clean lock format

help:  ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' Makefile

install:  ## create .venv, with the hash-pinned requirements and the program .venv/bin/fleet
	@scripts/install.sh

dev:  ## install, including the tools for tests and checks
	@scripts/install.sh dev

run: install  ## run the sample mission, an audit of this repository: make run [REPO=/path/to/repo]
	@$(PY) -m examples.repo_audit "$$REPO"
	@$(PY) manage.py fleet_up --run examples/repo_audit/audit.yaml --param "repository=$$REPO"

up: install  ## start the whole fleet in the background
	@$(PY) manage.py fleet_up --detach

down: install  ## stop the fleet
	@$(PY) manage.py fleet_down

test: dev  ## run the tests; they start their own services
	@mkdir -p build; rm -f build/failed.txt
	@$(PY) -m pytest -n $(WORKERS) --dist loadgroup -m "not drill and not containers" --durations=5 --list-failed build/failed.txt $(RESULTS)=build/tests.xml \
	|| { test -s build/failed.txt && echo "These failed while other tests ran in parallel. Running them again alone:" && cat build/failed.txt && $(PY) -m pytest @build/failed.txt; }

coverage: dev  ## run the tests and measure their coverage, including the fleets that they start
	@rm -f .coverage .coverage.*; mkdir -p build
	@$(PY) -m coverage run -m pytest -n $(WORKERS) --dist loadgroup -m "not drill and not containers" --durations=5 $(RESULTS)=build/coverage-tests.xml
	@$(PY) -m coverage combine -q 2>build/combine.txt || { cat build/combine.txt; exit 1; }  # it warns of the incomplete file of each killed process
	@$(PY) -m coverage json -q -o build/coverage.json
	@$(PY) -m coverage report --skip-covered --sort=cover --fail-under=$(FLOOR)

drills: dev  ## run the long tests: 1 GB of output, soaks, restarts
	@$(PY) -m pytest -m drill $(RESULTS)=build/drills.xml

test-containers: dev  ## test compose.yaml on a real podman: missions, crashes, scaling; needs root
	@$(PY) -m pytest -m containers -rs -s --timeout=2400 $(RESULTS)=build/containers.xml

check: dev  ## check style, types, security, imports, migrations and pins
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m bandit -q -r fleet agents missions checkpoints examples -ll -s B604  # B604: our own parameters named shell
	$(PY) -m mypy
	.venv/bin/lint-imports --no-cache
	DATABASE_URL= REDIS_URL= $(PY) -W ignore manage.py makemigrations --check --dry-run
	@$(PY) scripts/lint_migrations.py
	$(PY) manage.py check
	$(PY) -m pip check
	@$(PY) scripts/audit.py check
	@! git grep -nIE 'https?://[a-z.]*(pypi|pythonhosted|npmjs|debian)\.' -- . || { echo "a file names the host of a package registry"; exit 1; }

audit: dev  ## fetch the known advisories of the pinned requirements for make check; needs a network
	@$(PY) scripts/audit.py refresh

sbom: dev  ## write a bill of materials (CycloneDX) to build/sbom.json; needs a network
	@mkdir -p build
	@.venv/bin/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements --of JSON -o build/sbom.json requirements.txt
	@echo "build/sbom.json"

format: dev  ## fix style and format the code
	$(PY) -m ruff check --fix-only . ; $(PY) -m ruff format .

docs:  ## build the offline documentation site into build/docs
	@scripts/install.sh docs
	@$(PY) -m scripts.docs

bench: dev  ## compare with bare Celery and with bench/baseline.json; fails on a regression
	@$(PY) -m bench

readiness: dev  ## write docs/production-readiness.md from what was measured
	@$(PY) -m scripts.readiness

bench-baseline: dev  ## record the last run of make bench in bench/baseline.json
	@$(PY) -m bench.baseline keep

lock: dev  ## pin every requirement by hash
	.venv/bin/uv pip compile --universal --generate-hashes --no-annotate --no-header --python-version 3.11 -q requirements/base.in -o requirements.txt
	.venv/bin/uv pip compile --universal --generate-hashes --no-annotate --no-header --python-version 3.11 -q examples/repo_audit/requirements.in -o examples/repo_audit/requirements.txt
	.venv/bin/uv pip compile --universal --generate-hashes --no-annotate --no-header --python-version 3.11 -q requirements/dev.in -o requirements-dev.txt
	.venv/bin/uv pip compile --universal --generate-hashes --no-annotate --no-header --python-version 3.11 -q requirements/docs.in -o requirements-docs.txt

clean:  ## remove .venv and build files; keeps the fleet's data unless DATA=yes
	@if [ -x $(PY) ]; then $(PY) manage.py fleet_down; fi
	rm -rf build .venv .mypy_cache .ruff_cache .coverage .coverage.* .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
ifeq ($(DATA),yes)
	rm -rf .fleet .flightline
else
	@echo "The fleet's data is still in .fleet and .flightline; make clean DATA=yes removes it, too."
endif
