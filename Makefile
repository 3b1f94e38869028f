# make help lists what there is. Everything runs in .venv, which `make install` makes.
SHELL := /bin/sh
PYTHON ?= python3
REPO ?= .
PY := .venv/bin/python
FLOOR := 90
# As it was given, and by the environment: a path with a $ or a quote means nothing to make or to the shell.
override REPO := $(value REPO)
export PYTHON REPO

.DEFAULT_GOAL := help
.PHONY: help install dev run up down test coverage drills check audit sbom bench clean lock format

help:  ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

install:  ## make .venv and install the hashed requirements
	@scripts/install.sh

dev:  ## the same with what the tests and checks need
	@scripts/install.sh dev

run: install  ## fly the sample mission, an audit of this repository: make run [REPO=/path/to/repo]
	@$(PY) -m examples.repo_audit "$$REPO"
	@$(PY) manage.py fleet_up --run examples/repo_audit/audit.yaml --param "repository=$$REPO"

up: install  ## start the whole fleet in the background
	@$(PY) manage.py fleet_up --detach

down: install  ## stop it
	@$(PY) manage.py fleet_down

test: dev  ## the tests, on services of their own
	@$(PY) -m pytest -n 2 --dist loadgroup -m "not drill" --durations=5

coverage: dev  ## the same, and how much of the code they cover, also in the fleets that they start
	@rm -f .coverage .coverage.*; mkdir -p build
	@$(PY) -m coverage run -m pytest -n 2 --dist loadgroup -m "not drill" --durations=5
	@$(PY) -m coverage combine -q 2>build/combine.txt || { cat build/combine.txt; exit 1; }  # it tells of half a file of each killed process
	@$(PY) -m coverage report --skip-covered --sort=cover --fail-under=$(FLOOR)

drills: dev  ## the long tests: 1 GB of output, soaks, restarts
	@$(PY) -m pytest -m drill

check: dev  ## style, types, security, imports, migrations, pins
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m bandit -q -r fleet agents missions checkpoints examples -ll -s B604  # B604: parameters of ours that are called shell
	$(PY) -m mypy
	.venv/bin/lint-imports --no-cache
	DATABASE_URL= REDIS_URL= $(PY) -W ignore manage.py makemigrations --check --dry-run
	$(PY) manage.py check
	$(PY) -m pip check
	@$(PY) scripts/audit.py check
	@! git grep -nIE 'https?://[a-z.]*(pypi|pythonhosted|npmjs|debian)\.' -- . || { echo "a registry's host stands in a file"; exit 1; }

audit: dev  ## ask for known advisories of the pinned requirements, and keep them for make check; needs a network
	@$(PY) scripts/audit.py refresh

sbom: dev  ## a bill of materials (CycloneDX) of what a fleet runs on: build/sbom.json; needs a network
	@mkdir -p build
	@.venv/bin/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements --of JSON -o build/sbom.json requirements.txt
	@echo "build/sbom.json"

format: dev  ## mend style where that can be done by a program
	$(PY) -m ruff check --fix-only . ; $(PY) -m ruff format .

bench: dev  ## measure against bare Celery; results go to build/bench.json
	@$(PY) -m bench

lock: dev  ## pin every requirement by hash
	.venv/bin/uv pip compile --universal --generate-hashes --no-annotate --no-header --python-version 3.11 -q requirements/base.in -o requirements.txt
	.venv/bin/uv pip compile --universal --generate-hashes --no-annotate --no-header --python-version 3.11 -q examples/repo_audit/requirements.in -o examples/repo_audit/requirements.txt
	.venv/bin/uv pip compile --universal --generate-hashes --no-annotate --no-header --python-version 3.11 -q requirements/dev.in -o requirements-dev.txt

clean:  ## remove what was built; the fleet's data stay, unless DATA=yes
	@if [ -x $(PY) ]; then $(PY) manage.py fleet_down; fi
	rm -rf build .venv .mypy_cache .ruff_cache .coverage .coverage.* .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
ifeq ($(DATA),yes)
	rm -rf .fleet
else
	@echo "The fleet's data stay in .fleet; make clean DATA=yes removes them too."
endif
