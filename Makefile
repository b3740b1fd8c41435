# Everything runs from .local/: two environments made from hashed locks, and the state of the laptop's stack.
SHELL := /bin/bash
PYTHON3 ?= python3.11
PY := .local/airflow/bin/python
SOURCE ?=
LABELS ?=
CONF ?= {}
KILLS ?= 100
ROUNDS ?= 3
RECORDS ?= 4000
PROFILE ?=
MAX_USD ?=
CONFIRM ?=
DRY_RUN ?=
REGION ?=
LAKE ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup python demo up down test test-all test-browser screenshots bench-split bench-train soak-clusters lint format dist lock doctor check-aws clean

help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

setup: python ## make the two environments (the other targets do this themselves)
	@$(PYTHON3) scripts/set_up.py

python:
	@command -v $(PYTHON3) >/dev/null || { echo "$(PYTHON3) is missing: install Python 3.11 with venv (Debian: apt install python3.11 python3.11-venv)" >&2; exit 1; }

demo: setup ## run the whole pipeline, on a sample or with SOURCE=folder LABELS=file.csv
	@$(PY) -m shardmill.laptop.demo --source '$(SOURCE)' --labels '$(LABELS)' --conf '$(CONF)'

up: setup ## start Airflow and the local AWS, and stay
	@$(PY) -m shardmill.laptop.up up

down: setup ## end what `make up` started
	@$(PY) -m shardmill.laptop.up down

test: setup lint ## lint, types, import contracts and tests
	@$(PY) scripts/run_tests.py -m 'not slow'

test-all: setup lint ## the long tests too
	@$(PY) -m pytest

test-browser: setup ## log in, trigger, watch and read a report in a headless Chromium (Debian: apt install chromium)
	@$(PYTHON3) scripts/set_up.py browser
	@$(PY) -m pytest tests/browser

screenshots: setup ## the same, and its pictures go to docs/
	@$(PYTHON3) scripts/set_up.py browser
	@SHARDMILL_SCREENSHOTS=docs $(PY) -m pytest tests/browser

bench-split: setup ## measure split against the well-known shell pipeline
	@$(PY) scripts/bench_split.py

bench-train: setup ## measure training against plain Keras and Elephas: ROUNDS=3 RECORDS=4000
	@$(PY) scripts/bench_train.py --rounds '$(ROUNDS)' --records '$(RECORDS)' $(ARGS)

soak-clusters: setup ## kill Airflow's processes at random while clusters come and go: KILLS=100
	@SOAK_KILLS='$(KILLS)' $(PY) -m pytest tests/kills/test_soak.py -s

lint: setup ## ruff, types and import contracts
	@.local/airflow/bin/ruff check .
	@.local/airflow/bin/ruff format --check .
	@.local/airflow/bin/mypy
	@.local/airflow/bin/lint-imports --no-cache

format: setup ## mend what ruff can mend
	@.local/airflow/bin/ruff check --fix .
	@.local/airflow/bin/ruff format .

dist: setup ## make what an Airflow of yours is given: wheel, plugins.zip, dags.zip, constraints
	@$(PY) scripts/dist.py

lock: setup ## compile the locks anew (maintainers only)
	@scripts/lock.sh

doctor: python ## say what is missing or odd on this machine, and how to mend it
	@$(PYTHON3) scripts/doctor.py

check-aws: setup ## try a real account with one node for minutes: PROFILE=… MAX_USD=2 CONFIRM=yes, or DRY_RUN=1
	@$(PY) scripts/check_aws.py --profile '$(PROFILE)' --max-usd '$(MAX_USD)' --confirm '$(CONFIRM)' \
		--dry-run '$(DRY_RUN)' --region '$(REGION)' --lake '$(LAKE)' $(ARGS)

clean: ## end what runs and remove all state and both environments
	@if [ -x $(PY) ]; then $(PY) -m shardmill.laptop.up down; fi
	@rm -rf .local
