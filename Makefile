# make demo        set everything up and run the main job on the flagship network
# make demo-fewshot   train a few-shot backbone, quantize it, measure it, build it: in ten minutes, then a page to play with
# make test        ruff, mypy --strict, the tests; needs no torch
# make quick       the style of imports and a few tests, in seconds: what pre-commit runs
# make explore     the property tests on examples that no run has seen yet
# make mutate      which guards no test fires; PACKAGES=numeric COUNT=40 SEED=2 for others than 300 of all
# make test-train  the tests that train with Brevitas and compare with torch
# make bench       measure the examples, and compare with Tensil's compiler; NETWORKS=FOLDER has more networks
# make bench-c     the emitted C: times beside ONNX Runtime, instructions under QEMU, sizes; BENCH_C="--only resnet9" has less
# make docs        the site, from docs/ and the docstrings: build/docs/html/index.html; a warning is an error
# make release-check   wheel and sdist work elsewhere: docs/releasing.md; RELEASE=FOLDER keeps them there
# PYTHON=python3.12 make ...   another interpreter, 3.11 or newer

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROCESSES ?= 2
NETWORKS ?=
PACKAGES ?= numeric,ir,passes,frontend,targets
COUNT ?= 300
SEED ?= 1
RELEASE ?=
BENCH_C ?=
OUTPUT ?= build/demo
SITE ?= build/docs
FEWSHOT ?= build/fewshot
FLAGSHIP := pefsl_resnet9_16_strided_bnfold_q2_3
SOURCES := lowering frontend passes targets tests benchmarks examples docsite noxfile.py setup.py
QUICK := tests/test_architecture.py tests/numeric/test_format.py tests/frontend/test_spellings.py tests/tensil/test_encoding.py

.PHONY: demo demo-fewshot test lint types pytest quick explore mutate test-train bench bench-c docs wheel release-check clean

demo: $(VENV)/.core
	$(BIN)/pefslc examples/$(FLAGSHIP).onnx --target tensil --fmt Q2.3 --arch custom_perf -o $(OUTPUT) --verify examples/$(FLAGSHIP).npz
	$(BIN)/pefslc examples/$(FLAGSHIP).onnx --target c --fmt Q2.3 -o $(OUTPUT) --verify examples/$(FLAGSHIP).npz

# Stopped, it goes on: files that are there are not made again, a training continues from its last epoch.
demo-fewshot: $(FEWSHOT)/glyphs_auto_4.onnx $(FEWSHOT)/glyphs_Q2.3.onnx
	$(BIN)/pefslc fewshot evaluate $^ --float $(FEWSHOT)/float.pt
	$(BIN)/pefslc fewshot build $(FEWSHOT)/glyphs_Q2.3.onnx -o $(FEWSHOT)/system --arch custom_perf
	@echo "now draw something: $(BIN)/pefslc fewshot demo $(FEWSHOT)/system"

$(FEWSHOT)/float.pt: | $(VENV)/.sweep
	mkdir -p $(FEWSHOT)
	$(BIN)/pefslc fewshot train -o $@ --resume

# glyphs_auto_4.onnx has --fmt auto:4
$(FEWSHOT)/glyphs_%.onnx: $(FEWSHOT)/float.pt
	$(BIN)/pefslc fewshot quantize $< -o $@ --fmt $(subst _,:,$*) --distill --resume

test: lint types pytest

lint: $(VENV)/.test
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

# mypy cannot follow the package mapping of an editable install: it reads the tree as it is installed.
types: $(VENV)/.test
	rm -rf build/types
	mkdir -p build/types
	cp -R lowering build/types/pefslc
	cp -R frontend passes targets build/types/pefslc/
	MYPYPATH=build/types $(BIN)/mypy --strict --python-executable $(BIN)/python -p pefslc

pytest: $(VENV)/.test
	$(BIN)/python -m pytest -n $(PROCESSES) -m "not train"

quick: $(VENV)/.test
	$(BIN)/python -m pytest -q $(QUICK)

explore: $(VENV)/.test
	$(BIN)/python -m pytest -n $(PROCESSES) -m "not train" --hypothesis-profile explore $$(grep -l "@given" -r tests)

mutate: $(VENV)/.test
	$(BIN)/python tests/mutate.py --packages $(PACKAGES) --count $(COUNT) --seed $(SEED) --jobs $(PROCESSES)

# One thread of torch for each process: its threads wait for each other by turning round.
test-train: $(VENV)/.train
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) -m train tests/train tests/docs tests/fewshot

bench: $(VENV)/.core
	$(BIN)/python benchmarks/measure.py
	$(BIN)/python benchmarks/goals.py $(NETWORKS)

# docs/c-performance.md says what the columns mean; what is not installed, such as clang or QEMU, is left out and named.
bench-c: $(VENV)/.bench
	mkdir -p build
	$(BIN)/python benchmarks/c_speed.py --json build/bench-c.json $(BENCH_C)

docs: $(VENV)/.docs
	$(BIN)/python docsite/build.py $(SITE)
	@echo "now open $(SITE)/html/index.html"

# setuptools copies what an earlier build left in build/lib, so it goes first.
wheel: $(VENV)/.test
	rm -rf build/lib build/bdist.*
	$(BIN)/python -m build --wheel

release-check: $(VENV)/.test
	$(BIN)/python tests/release_check.py $(if $(RELEASE),--keep $(RELEASE)) $(QUICK)

clean:
	rm -rf build dist $(VENV) .nox *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: pefslc needs Python 3.11 or newer; $(PYTHON) is not: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	touch $@ $(VENV)/.docs $(VENV)/.core

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	touch $@ $(VENV)/.core

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	touch $@ $(VENV)/.core

$(VENV)/.sweep: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[sweep]"
	touch $@ $(VENV)/.core

$(VENV)/.train: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test,sweep]"
	touch $@ $(VENV)/.sweep $(VENV)/.test $(VENV)/.docs $(VENV)/.core
