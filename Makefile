# Every target sets up .venv first, with the tested versions of constraints.txt; PYTHON chooses the interpreter.
PYTHON ?= python3
FUZZ_SECONDS ?= 60
BIN := .venv/bin
READY := .venv/.ready
# tools that look at the environment from outside, in one of their own
AUDIT := .venv/audit
PACKAGES = $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

.PHONY: demo test lint mutants faults fuzz crash soak coverage audit sbom wheel clean

demo: $(READY)  ## the main job on scikit-learn's handwritten digits: train, calibrate, judge, score files
	$(BIN)/deepad fit --config configs/digits-dense.yaml --run runs/demo --overwrite
	$(BIN)/python scripts/write_digits.py --output runs/demo/images
	$(BIN)/deepad score --scorer runs/demo/scorer runs/demo/images --output runs/demo/images.csv
	@echo
	@echo "report  runs/demo/report.html"
	@echo "scores  runs/demo/images.csv"

test: export OMP_NUM_THREADS = 1
test: $(READY)  ## all tests; those on real data run where DEEPAD_DATA names a folder of them
	$(BIN)/python -m pytest -q -n auto --dist loadfile

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

mutants: $(READY)  ## break the calibration in every known way: a test must notice each
	$(BIN)/python scripts/mutants.py

crash: $(READY)  ## kill commands at every write, flush and rename, or at CRASH_POINTS of them, then do what the next start says
	$(BIN)/python tests/crash/harness.py $(if $(CRASH_POINTS),--sample $(CRASH_POINTS))
	$(BIN)/python tests/crash/harness.py --terminate $(if $(CRASH_POINTS),--sample $(CRASH_POINTS))

faults: export OMP_NUM_THREADS = 1
faults: $(READY)  ## the tests that hold each fault of docs/reliability.md, counted
	$(BIN)/python scripts/faults.py

fuzz: export OMP_NUM_THREADS = 1
fuzz: $(READY)  ## hostile scorers and files for FUZZ_SECONDS each: a crash, a hang or too much memory fails
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,fuzz]'
	$(BIN)/python tests/fuzzing/fuzz_artifact.py --seconds $(FUZZ_SECONDS)
	$(BIN)/python tests/fuzzing/fuzz_files.py --seconds $(FUZZ_SECONDS)

coverage: $(READY)  ## which lines the tests reach
	$(BIN)/python -m pytest -q --cov --cov-report=term-missing:skip-covered --cov-report=xml

audit: $(READY)  ## known vulnerabilities of what is installed; without a network it says so and goes on
	@$(MAKE) -s $(AUDIT)/.ready || echo "vulnerabilities: not looked up, pip-audit cannot be installed"
	@test ! -e $(AUDIT)/.ready || $(BIN)/python scripts/audit.py $(AUDIT)/bin/pip-audit $(PACKAGES)

sbom: $(READY)  ## what is installed, with licences, as CycloneDX JSON in dist/; without a network it says so and goes on
	@$(MAKE) -s $(AUDIT)/.ready || echo "components: not listed, cyclonedx-bom cannot be installed"
	@mkdir -p dist
	@test ! -e $(AUDIT)/.ready || $(AUDIT)/bin/cyclonedx-py environment $(BIN)/python --output-reproducible --of JSON -o dist/sbom.json
	@test ! -e dist/sbom.json || echo "components in dist/sbom.json: $$(grep -c '"bom-ref"' dist/sbom.json)"

soak: export OMP_NUM_THREADS = 1
soak: export DEEPAD_SOAK_MIB ?= 1024
soak: $(READY)  ## score a folder ten times as large as the memory allowed, DEEPAD_SOAK_MIB MiB
	$(BIN)/python -m pytest -q -n 0 tests/faults/test_memory.py

wheel: $(READY)  ## source and binary distributions in dist/
	$(BIN)/pip wheel --no-deps -q -w dist .

clean:  ## remove the environment and what the targets made
	rm -rf .venv runs dist .pytest_cache .mypy_cache .ruff_cache .hypothesis coverage.xml .coverage

$(AUDIT)/.ready: Makefile
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install -q --disable-pip-version-check pip-audit==2.10.1 cyclonedx-bom==7.5.0
	@touch $@

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"deepad needs Python 3.11 or newer, $(PYTHON) is {sys.version.split()[0]}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)
