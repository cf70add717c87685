# Each target makes what it needs: a virtual environment in .venv, from the files of this checkout. Made once, it costs
# nothing again. `make PYTHON=python3.12 test` takes another Python; an activated environment is left alone.

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OLDEST ?= python3.10
QUIETLY := --quiet --disable-pip-version-check

.PHONY: demo test coverage test-oldest constraints lint types docs bench clean

# The main job on the embedded digits: search a student, grow its teacher, distil it back; the page is in runs/quickstart.
demo: $(STAMP)
	$(BIN)/nasdistill run recipes/quickstart.yaml

# In two processes; `make WORKERS=8 test` takes more of them, `WORKERS=0` none but pytest's own.
test: $(STAMP)
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

coverage: $(STAMP)
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal --cov=nasdistill --cov-report=term:skip-covered

# With the lowest versions that setup.py promises, on the lowest Python: the tests that touch the most of other libraries.
# What passed is written down and committed, so that CI repeats it only after one of these files has changed.
test-oldest:
	$(OLDEST) -m venv --clear $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install $(QUIETLY) --constraint constraints-oldest.txt --editable ".[test]"
	$(VENV)-oldest/bin/pytest --numprocesses $(WORKERS) --dist worksteal tests/test_validation.py tests/models/test_inspection.py \
		tests/models/test_exporters.py tests/data/test_image_folder.py tests/report/test_plots.py tests/training/test_engine.py \
		tests/training/test_resume.py tests/tuning/test_algorithms.py tests/cli/test_wrong_recipes.py tests/distill/test_objectives.py
	sha256sum setup.py constraints-oldest.txt > .ci/oldest.sha256

# The newest versions that fit, without what torch brings along for one kind of machine.
constraints:
	$(PYTHON) -m venv --clear $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install $(QUIETLY) ".[test]"
	head -1 constraints.txt > constraints.new
	$(VENV)-newest/bin/python -m pip freeze --exclude nasdistill | grep -vE '^(nvidia-|cuda-|triton)' | \
		sed "s/$$/; python_version >= \"$$($(VENV)-newest/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')\"/" >> constraints.new
	mv constraints.new constraints.txt

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

docs: $(VENV)/.docs-installed
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

bench: $(STAMP)
	$(BIN)/python -m pip install $(QUIETLY) --constraint constraints.txt --editable ".[bench]"
	for name in depthwise training distill torchdistill search growth channels fisher zero_shot compare processes scoring; do $(BIN)/python -m benchmarks.$$name || exit 1; done

$(STAMP): setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(QUIETLY) --constraint constraints.txt --editable ".[test]"
	touch $@

$(VENV)/.docs-installed: $(STAMP)
	$(BIN)/python -m pip install $(QUIETLY) --constraint constraints.txt --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest build dist *.egg-info docs/_build
