# PartGen with everything that requirements.lock names. The lock's PyTorch brings its own CUDA libraries, so the default base serves
# CPUs, and NVIDIA GPUs whose driver the host's container toolkit hands in; BASE names another one where a CUDA base is wanted.
#
#   docker build -t partgen .
#   docker build -t partgen:cuda --build-arg BASE=nvidia/cuda:13.0.0-runtime-ubuntu22.04 .
#
# docs/machines.md says how to run it.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# Python 3.11 where the base has none: Ubuntu's own is a release candidate or missing. One package of the lock is compiled.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates g++ git make \
 && if ! command -v python3.11 >/dev/null; then \
      DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends software-properties-common gpg-agent \
      && add-apt-repository -y ppa:deadsnakes/ppa \
      && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3.11 python3.11-dev python3.11-venv; \
    fi \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /partgen

# The packages are a layer of their own, which a change of the code leaves as it is.
COPY requirements.lock ./
RUN python3.11 -m venv .venv \
 && .venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --requirement requirements.lock

COPY . .
RUN ./setup.sh python3.11 .venv && touch .venv/.installed && rm -rf /var/lib/apt/lists/* \
 && chmod -R a+rwX .partgen

ENV PATH=/partgen/.venv/bin:$PATH \
    PARTGEN_SCRATCH=/partgen/.partgen \
    NVIDIA_DRIVER_CAPABILITIES=all
CMD ["partgen", "--help"]
