# Everything runs inside .venv, which is made on first use from pyproject.toml and the tested versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEMO_DIR ?= runs/demo
DEMO_ARGS ?=

.PHONY: demo test lint bench docs clean help

help:
	@echo "make demo    pre-train a tiny model on procedural videos, with curves and pictures, in $(DEMO_DIR)"
	@echo "make test    run every test"
	@echo "make lint    ruff: lint and format check; mypy: types"
	@echo "make docs    build the documentation's site in build/site; runs the tutorial"
	@echo "make bench   measure masking and pre-training speed on this machine"

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/mgmae pretrain --config configs/demo.py --workdir $(DEMO_DIR) $(DEMO_ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	@test -x $(BIN)/mkdocs || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "wrote build/site/index.html"

bench: $(STAMP)
	$(BIN)/mgmae bench masking
	$(BIN)/mgmae bench pretrain

clean:
	rm -rf .venv runs build dist *.egg-info
