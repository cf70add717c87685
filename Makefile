# Each target makes what it needs: a virtual environment in .venv, from the files of this checkout. Made once, it costs
# nothing again. `make PYTHON=python3.12 test` takes another Python; an activated environment is left alone.

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types docs bench clean

# The main job on the embedded digits: search a student, grow its teacher, distil it back; the page is in runs/quickstart.
demo: $(STAMP)
	$(BIN)/nasdistill run recipes/quickstart.yaml

# In two processes; `make WORKERS=8 test` takes more of them, `WORKERS=0` none but pytest's own.
test: $(STAMP)
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

docs: $(VENV)/.docs-installed
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	for name in training distill torchdistill search fisher zero_shot compare processes; do $(BIN)/python -m benchmarks.$$name || exit 1; done

$(STAMP): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	touch $@

$(VENV)/.docs-installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info docs/_build
