# dslearn: every command sets up first, is safe to repeat, and takes up where a broken one stopped.
# The README gives the same as plain lines for those without make.

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help setup lab test check chapters exercises book train lint unit wheel offline bench browser

VENV := .venv
BIN := $(VENV)/bin
# The stamp is written after a whole installation only. Its name follows what was installed, and where.
STAMP := $(VENV)/installed-$(shell (cat requirements.lock pyproject.toml; pwd) | cksum | cut -d' ' -f1)

help: ## say what each command does and how long it takes
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

lab: setup ## open the course in JupyterLab (first time 2-4 min, then seconds)
	@$(BIN)/dslearn lab $(if $(PORT),--port $(PORT))

test: lint unit wheel offline bench book browser ## everything that must hold (about an hour)
	@echo "make test: all of it holds"

check: lint ## the daily part: lint, types, quick tests (at most 5 min)
	$(BIN)/python -m pytest -n 2 -m "not slow and not answers and not notebook and not wheel and not browser"

chapters: setup ## run the chapters from fresh kernels, network blocked, store outputs, renew the pages (about 4 min)
	$(BIN)/python -m dslearn.course.execute --store
	$(BIN)/python -m dslearn.course.pages

exercises: setup ## run the solutions, store their outputs, write exercises/ from them (under 1 min)
	$(BIN)/python -m dslearn.course.execute --store solutions/*.ipynb
	$(BIN)/python -m dslearn.course.workbook
	$(BIN)/python -m tests.course.rejections
	$(BIN)/python -m dslearn.course.pages

book: setup ## build the book into build/book, a static site; warnings are errors (under 1 min)
	$(BIN)/dslearn book

train: setup ## train the finished language model anew (at most 90 min on 2 cores that multiply bfloat16, hours on others; Ctrl-C, then again: it resumes)
	$(BIN)/dslearn train language

setup: $(STAMP) ## create .venv and install everything into it (first time 2-4 min, then nothing)

lint: setup ## ruff and pyright (under 1 min)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

unit: setup ## unit and oracle tests with coverage (about 25 min)
	$(BIN)/python -m pytest -n 2 -m "not slow and not notebook and not wheel and not browser" --cov --cov-report=
	$(BIN)/python -m pytest -m "(slow or notebook) and not wheel and not browser" --cov --cov-append --cov-report=term

wheel: setup ## build the wheel, install it into an empty environment, use it (about 2 min)
	$(BIN)/python -m pytest -m wheel

offline: setup ## run the chapters from fresh kernels, network blocked, and store nothing (about 4 min)
	$(BIN)/python -m dslearn.course.execute --check

bench: setup ## the benchmarks as smoke runs (about 2 min)
	$(BIN)/python -m benchmarks.attention --quick
	$(BIN)/python -m benchmarks.moe --quick

browser: setup ## a real Chromium opens JupyterLab, runs the chapters, reads the book, tries the demos (about 20 min)
	$(BIN)/python -m pytest -m browser

$(STAMP):
	@bash tools/setup.sh $(VENV)
	@touch $@
