# make demo               JupyterLab on the quickstart notebook, with the embedded model; nothing else to install
# make demo HEADLESS=1    the same notebook executed here: prints the answers and their timings
# make test               everything the tests need, then all tests
# make bench              the benchmarks: every figure with its peer's, from this run
# make soak               the long loops
# make build | lint       wheel and sdist | formatters, types, layers

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml $(wildcard jupyter-config/*/*) labextension/package.json labextension/yarn.lock $(wildcard labextension/src/*.ts labextension/src/*/*.ts labextension/style/*)
JLPM := cd labextension && PATH="$(CURDIR)/$(BIN):$$PATH" "$(CURDIR)/$(BIN)/jlpm"

.PHONY: demo test system bench soak build lint format screenshots clean

demo: $(VENV)/.demo
	$(BIN)/tokenstream demo $(if $(HEADLESS),--headless) notebooks/quickstart.ipynb

test:
	$(MAKE) --jobs=2 $(VENV)/.dev system
	$(BIN)/tokenstream pull
	sh scripts/test.sh $(BIN)

# what the tests need of the machine
system:
	sh scripts/chromium.sh
	sh scripts/postgres.sh

bench: $(VENV)/.dev
	$(BIN)/tokenstream pull
	sh scripts/chromium.sh
	for benchmark in $$(grep -l __main__ benchmarks/*.py); do echo "== $$benchmark"; $(BIN)/python $$benchmark || exit 1; done

soak: $(VENV)/.dev
	$(BIN)/tokenstream pull
	$(BIN)/python -m pytest -m soak --timeout=3600

build: $(VENV)/.dev
	$(BIN)/python -m build

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(JLPM) lint

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(JLPM) format

screenshots: $(VENV)/.dev
	sh scripts/chromium.sh
	$(BIN)/python docs/screenshots.py

clean:
	rm -rf $(VENV) .cache dist build tokenstream_magic/labextension labextension/lib labextension/node_modules

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# a changed front end is built again: pip keeps a bundle that is there
$(VENV)/.demo: $(SOURCES) | $(VENV)/bin/python
	rm -rf tokenstream_magic/labextension
	$(BIN)/python -m pip install --quiet --editable ".[local]"
	touch $@

$(VENV)/.dev: $(SOURCES) | $(VENV)/bin/python
	sh scripts/dev.sh $(BIN)
	touch $@ $(VENV)/.demo
