# run, test, lint, bench, build: the only commands a person needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONPATH := layers/common

.PHONY: run test lint lock clean

run: $(VENV)/.run  ## everything on http://localhost:8000
	@exec $(BIN)/python -m local

test: $(VENV)/.dev  ## all tests; with REDIS_URL and MYSQL_URL set, on those servers too
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy layers/common functions local migrations

lock: $(VENV)/.dev  ## pin the dependencies anew, with hashes
	for file in layers/common/requirements migrations/requirements local/requirements requirements-dev; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	    --no-emit-find-links --no-emit-index-url $$file.in -o $$file.txt; done

clean:
	rm -rf $(VENV) .build .local .aws-sam

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
