# Everything below works from a fresh clone with Python 3.10 or newer, make and git.

PYTHON ?= python3
PYTEST_ARGS ?=
MATRIX_ARGS ?=
CLUSTER_ARGS ?=
RUNS ?= 5
SETUPS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed
UNFINISHED := .venv/.unfinished
PEERS := .peers/.installed
CELERY := .celery/.installed
# The tests in an Airflow with all its processes; the longest one first.
E2E_TESTS := tests/airflow_processes/test_faults.py tests/browser/ tests/airflow_processes/
TESTS := tests/test_*.py $(filter-out $(E2E_TESTS) tests/__pycache__/,$(wildcard tests/*/))
# The pure tests and those of sockets: without what runs an Airflow or an installation, or builds the site.
QUICK_TESTS := $(filter-out tests/airflow/ tests/documents/ tests/packaging/,$(TESTS))
PEER_PACKAGES := apache-airflow-providers-anthropic anthropic docstring_parser httpcore2 httpx2 jiter truststore \
	apache-airflow-providers-dbt-cloud apache-airflow-providers-http requests_toolbelt statsd
CELERY_PACKAGES := apache-airflow-providers-celery celery kombu billiard vine amqp redis click-didyoumean click-plugins \
	click-repl prompt_toolkit wcwidth tzlocal flower tornado humanize prometheus_client pytz

# Either would make the virtual environment see packages that are not its own.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help venv pins peers celery check test e2e matrix upgrade coverage lint format demo faults cluster fuzz parked answers bench imports docs up down build clean

help:
	@echo "make demo     run the example DAGs in a real Airflow, on the embedded sandbox (about a minute)"
	@echo "make faults   break Airflow and the service in every way, RUNS=5 times, and print the table (9 minutes each)"
	@echo "make cluster  run 1,000 agent tasks on two of each: Celery workers, triggerers, API servers, schedulers, on PostgreSQL"
	@echo "              and Redis; kill one of each meanwhile, and print what became of the agents, and what a task costs"
	@echo "              (an hour on two cores); CLUSTER_ARGS='--tasks 60' is passed on"
	@echo "make fuzz     send 2,000 hostile replies and 500 streams to the clients, 3,000 requests and 6,500"
	@echo "              callbacks to the plugin, and print what they broke (8 minutes)"
	@echo "make parked   let 100 agent tasks wait for an answer, and count what they occupy meanwhile (2 minutes)"
	@echo "make answers  answer 200 questions the moment they appear, in each setup, and print for how long that was delayed"
	@echo "              (5 minutes a setup); SETUPS='local celery' runs some of them"
	@echo "make bench    measure what waiting costs, beside other providers, and print the tables (more than an hour)"
	@echo "make up       start the same and leave it running; prints the address of the Airflow UI"
	@echo "make down     stop what make up left running"
	@echo "make check    the quick loop while editing: format, ruff, mypy, the layers, and the tests without an Airflow"
	@echo "make test     run all tests but those of make e2e (13 minutes); PYTEST_ARGS='-k name' is passed on to pytest"
	@echo "make e2e      run the tests in an Airflow with all its processes: the UI in a browser, each fault once (13 minutes)"
	@echo "make matrix   run the tests on each version of Airflow, Python and database, and print the table (hours);"
	@echo "              MATRIX_ARGS='--airflow 3.3.2 --ring pure,wire' runs a part of it"
	@echo "make upgrade  upgrade Airflow to the newest while agent tasks wait, and print what became of each (4 minutes, and the first"
	@echo "              time some more for its installation)"
	@echo "make coverage prove that the pure tests take every branch of the pure packages"
	@echo "make imports  print the folders of the package: files, lines, imports in and out, circles"
	@echo "make docs     build the documentation site into site/, and fail on a warning or a dead link"
	@echo "make lint     ruff, mypy, and what a package index and the repository's host would say of the archives and forms"
	@echo "make format   let ruff lay out the code"
	@echo "make venv     make .venv with the pinned packages; the other targets do it by themselves"
	@echo "make pins     choose the Airflow to develop with, AIRFLOW=3.3.2: put its pins from constraints/ into constraints.txt"
	@echo "make peers    install the providers to compare with into .peers; faults and bench do it by themselves"
	@echo "make celery   install what CeleryExecutor needs into .celery; cluster and answers do it by themselves"
	@echo "make build    build the wheel and the source archive into dist/"
	@echo "make clean    remove all that these targets made"

venv: $(INSTALLED)

# The variables, and not -c, so that the pins hold for the build backend as well: the first for old pips, the second for new.
# An interrupted installation can leave half a package that pip takes for a whole one: begin anew after one.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + "; say make PYTHON=..." if sys.version_info < (3, 10) else 0)'
	@if [ -e $(UNFINISHED) ]; then rm -rf .venv; fi
	@echo "installing the pinned packages into .venv (about a minute) ..."
	@$(PYTHON) -m venv .venv
	@rm -f $(INSTALLED)
	@touch $(UNFINISHED)
	@PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@mv $(UNFINISHED) $(INSTALLED)
	@touch $(INSTALLED)

# One flat file, so that every installer reads it; constraints/ holds the pins of each Airflow, and those of all else once.
pins:
	@ls constraints/airflow-$(AIRFLOW).txt >/dev/null || { echo "say make pins AIRFLOW=VERSION, for one of constraints/airflow-*.txt"; exit 2; }
	@grep -hv '^-c ' constraints/airflow-$(AIRFLOW).txt constraints/shared.txt >constraints.txt

# Installs packages into a folder of their own, kept out of .venv, because users need none of them. Without dependencies, or
# pip would install a second Airflow beside them: they use the one in .venv. The check fails if a list lacks a package.
define install_beside
	@echo "installing the packages $(1) into $(2) ..."
	@rm -rf $(2)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps \
		--target $(2) $(3)
	@PYTHONPATH=$(2) $(BIN)/python -m pip check --disable-pip-version-check
	@touch $(2)/.installed
endef

# Other providers that the faults and the waiting are compared with.
$(PEERS): $(INSTALLED) constraints.txt
	$(call install_beside,to compare with,.peers,$(PEER_PACKAGES))

# What CeleryExecutor needs.
$(CELERY): $(INSTALLED) constraints.txt
	$(call install_beside,of CeleryExecutor,.celery,$(CELERY_PACKAGES))

celery: $(CELERY)

peers: $(PEERS)

# Three processes for two cores: many tests only wait for a socket.
check: lint
	$(BIN)/pytest -n 3 $(QUICK_TESTS) $(PYTEST_ARGS)

# Paths in PYTEST_ARGS replace those of the target.
choose = $(if $(filter tests%,$(PYTEST_ARGS)),,$(1)) $(PYTEST_ARGS)

test: $(INSTALLED)
	$(BIN)/pytest -n 3 --dist worksteal $(call choose,$(TESTS))

# By file, because the tests of a file share an Airflow.
e2e: $(INSTALLED)
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $(call choose,$(E2E_TESTS))

matrix: $(INSTALLED)
	@$(BIN)/python -m lab.matrix $(MATRIX_ARGS)

upgrade: $(INSTALLED)
	@$(BIN)/python -m lab.upgrade

# Without the package's own pytest plugin, which would import the pure packages before they are measured; and without the
# tests that repeat what others cover a hundred thousand times.
coverage: $(INSTALLED)
	$(BIN)/pytest -n 2 tests/services tests/lifecycle tests/polling tests/test_text.py -p no:airflow_agent_tasks -k "not (pair_of_crashes or planted or kill_whose)" \
		--cov=airflow_agent_tasks.services --cov=airflow_agent_tasks.lifecycle --cov=airflow_agent_tasks.text \
		--cov=airflow_agent_tasks.agent_task --cov=airflow_agent_tasks.polling.circuit_breaker --cov-branch --cov-report=term-missing --cov-fail-under=100

# Nothing is downloaded: the build backend is that of .venv, and the schemas are parts of the packages that check.
lint: docs
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy airflow_agent_tasks lab
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/check-jsonschema --builtin-schema vendor.readthedocs .readthedocs.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms \
		$(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	@rm -rf build/lint
	$(BIN)/python -m build --quiet --no-isolation --outdir build/lint
	$(BIN)/twine check --strict build/lint/*
	$(BIN)/check-wheel-contents build/lint/*.whl
	$(BIN)/pyroma --min 10 --file build/lint/*.tar.gz

# The variable silences an advertisement of the theme, which is no warning about these documents.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

demo: $(INSTALLED)
	@$(BIN)/python -m lab.demo

faults: $(INSTALLED) $(PEERS)
	@$(BIN)/python -m lab.faults --runs $(RUNS) --peers

cluster: $(INSTALLED) $(CELERY)
	@$(BIN)/python -m lab.cluster_run $(CLUSTER_ARGS)

fuzz: $(INSTALLED)
	@$(BIN)/python -m lab.fuzz.replies
	@$(BIN)/python -m lab.fuzz.streams
	@$(BIN)/python -m lab.fuzz.routes
	@$(BIN)/python -m lab.fuzz.callbacks

parked: $(INSTALLED)
	@$(BIN)/python -m lab.benchmarks.measure_parked_tasks

answers: $(INSTALLED) $(CELERY)
	@$(BIN)/python -m lab.benchmarks.measure_answer_delay $(SETUPS)

bench: $(INSTALLED) $(PEERS)
	@$(BIN)/python -m lab.benchmarks

imports: $(INSTALLED)
	@$(BIN)/python -m lab.package_imports

up: $(INSTALLED)
	@$(BIN)/python -m lab.demo.up

# Without the virtual environment: what is running must be stoppable when .venv is gone.
down:
	@$(PYTHON) -m lab.demo.down

# With the pinned build backend of .venv.
build: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --no-isolation

clean: down
	rm -rf .venv .matrix .peers .celery .demo .airflow dist build site test-artefacts .pytest_cache .mypy_cache .ruff_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
