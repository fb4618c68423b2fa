# Everything a person does with openQRM's sources. The first target is what plain `make` does.

SOURCES := $(wildcard services/*/src shared/*/src deploy/*/src)
UNIT_TESTS := $(wildcard services/*/tests shared/*/tests deploy/*/tests)
SPACE := $(subst ,, )
PYTEST := .venv/bin/pytest -q
HEADING = @printf '\n== %s ==\n'

.PHONY: help up setup test lint types imports unit contract scenario integration fuzz lab chaos test-chaos lab-up lab-down bench
.NOTPARALLEL:

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \2/p' $(MAKEFILE_LIST) | \
		while read -r make name what; do printf '  %s %-12s %s\n' "$$make" "$$name" "$$what"; done

up: ## install what is missing, start everything on this machine; Ctrl-C stops it
	@exec deploy/bootstrap up .venv/bin/python -m openqrm.embedded

setup: ## install what is missing to run and test, start nothing
	@deploy/bootstrap test

test: ## install what is missing, then every check and test below, up to the first that fails
	@deploy/bootstrap test
	@$(MAKE) --no-print-directory lint types imports unit contract scenario integration chaos lab
	@printf '\nall checks and tests passed\n'

lint: .venv/bin/python ## style and likely mistakes (ruff)
	$(HEADING) 'lint'
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check

types: .venv/bin/python ## types of all sources (mypy, strict)
	$(HEADING) 'types'
	@MYPYPATH=$(subst $(SPACE),:,$(SOURCES)) .venv/bin/mypy $(SOURCES)

imports: .venv/bin/python ## who may import whom (import-linter)
	$(HEADING) 'imports'
	@.venv/bin/lint-imports

unit: .venv/bin/python ## the tests beside the code
	$(HEADING) 'unit tests'
	@$(PYTEST) $(or $(UNIT_TESTS),$(error no unit tests were found))

contract: .venv/bin/python ## architecture and contracts
	$(HEADING) 'architecture and contracts'
	@$(PYTEST) tests/architecture tests/contracts

scenario: .venv/bin/python ## whole clusters in simulated time
	$(HEADING) 'scenarios'
	@$(PYTEST) tests/scenarios

integration: .venv/bin/python ## real NATS and PostgreSQL, and through the gateway
	$(HEADING) 'integration, disasters and end to end'
	@$(PYTEST) tests/integration tests/disasters tests/e2e tests/fuzz

fuzz: .venv/bin/python ## ten minutes of damaged requests and messages at everything
	$(HEADING) 'fuzz'
	@OPENQRM_FUZZ_SECONDS=$${OPENQRM_FUZZ_SECONDS:-600} OPENQRM_FUZZ_SEED=$${OPENQRM_FUZZ_SEED:-$$$$} $(PYTEST) -s tests/fuzz

lab: .venv/bin/python ## real hypervisors in namespaces of this machine; needs root
	$(HEADING) 'lab'
	@$(PYTEST) tests/lab

chaos: .venv/bin/python ## a minute of kills and cuts on simulated hosts, the same ones each time; SEED=n for others
	$(HEADING) 'the axe, one short round'
	@OPENQRM_CHAOS_SEED=$(or $(SEED),860111) $(PYTEST) -s tests/chaos/test_parts.py tests/chaos/test_short.py

test-chaos: .venv/bin/python ## ten rounds of it with real hypervisors; needs root; SEED=n plays one again; ROUNDS=n
	$(HEADING) 'the axe'
	@OPENQRM_CHAOS_SEED=$(SEED) OPENQRM_CHAOS_ROUNDS=$(or $(ROUNDS),10) $(PYTEST) -s \
		$(if $(SEED),,tests/chaos/test_planted.py) tests/chaos/test_rounds.py

lab-up: .venv/bin/python ## start the lab and leave it running
	@.venv/bin/python tests/lab/labctl.py up

lab-down: .venv/bin/python ## end the lab without a trace
	@.venv/bin/python tests/lab/labctl.py down

bench: .venv/bin/python ## how fast, how large: a table and build/bench.json; ROWS=burst for one; FLAT_SECONDS=3600
	@.venv/bin/python tests/bench/run.py $(ROWS)

.venv/bin/python:
	@deploy/bootstrap test
