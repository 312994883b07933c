# make demo   makes .venv, installs, and runs the whole loop on a simulated bench
# make test   the same .venv with the test extras, and the tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all lint gui screenshots bench faults clean qt-libraries

demo: $(VENV)/.installed
	$(BIN)/rram-bench demo --seed $(SEED)

test: $(VENV)/.test-installed qt-libraries
	QT_QPA_PLATFORM=offscreen $(BIN)/pytest -n auto --dist loadfile -m "not slow"

test-all: $(VENV)/.test-installed qt-libraries
	QT_QPA_PLATFORM=offscreen $(BIN)/pytest -n auto --dist loadfile

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

gui: $(VENV)/.installed qt-libraries
	$(BIN)/rram-bench gui

# Pictures of every workspace into docs/images, under Xvfb where there is one; some minutes.
screenshots: $(VENV)/.installed qt-libraries
	@if command -v xvfb-run >/dev/null; then QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 2560x1440x24" \
		$(BIN)/python -m bench.gui.screenshot docs/images; \
	else QT_QPA_PLATFORM=offscreen $(BIN)/python -m bench.gui.screenshot docs/images; fi

# Everything that claims speed, under fifteen minutes; PEERS=/path/of/python compares with other simulators too.
# JSON=FILE keeps all figures, WRITE=docs/performance.md writes that page's tables and growth picture (then longer).
bench: $(VENV)/.test-installed
	QT_QPA_PLATFORM=offscreen $(BIN)/python -m benchmarks $(if $(PEERS),--peers $(PEERS)) $(if $(JSON),--json $(JSON)) \
		$(if $(WRITE),--write $(WRITE))
	$(if $(WRITE),$(BIN)/python -m benchmarks.growth --write $(WRITE))

# Faults on the wires of the simulated bench, about fifteen minutes; writes docs/reliability.md.
faults: $(VENV)/.test-installed
	$(BIN)/python -m tests.faults

# PyQt5 carries Qt but not the system libraries that Qt itself loads; a bare Debian lacks them.
qt-libraries: $(VENV)/.installed
	@sh .ci/qt-libraries.sh $(BIN)/python

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off --editable .
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --progress-bar off --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
