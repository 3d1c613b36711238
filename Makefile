# make book | test | bench | mutation | clean        SCALE=smoke|laptop|paper
SCALE ?= laptop
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: book test bench lint unit mutation clean
.DELETE_ON_ERROR:

book: $(READY)
	$(BIN)/geolib book --scale $(SCALE)

test: lint unit
	$(MAKE) book SCALE=smoke
	$(BIN)/pytest tests/site

# Times geolib beside its peers, one after the other: nothing else should run on the machine for the quarter of an hour.
bench: $(READY)
	$(BIN)/python benchmarks/run.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(READY)
	$(BIN)/pytest tests/unit --cov --cov-report=term-missing

# Changes scores, streaming, transport and tracks one small step at a time and counts the changes that no test notices.
mutation: $(READY)
	rm -rf mutants
	$(BIN)/mutmut run
	$(BIN)/python tests/mutation_score.py

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("geolib needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

clean:
	rm -rf .venv _build mutants build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
