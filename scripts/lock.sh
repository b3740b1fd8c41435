#!/usr/bin/env bash
# Compile the hashed locks. The cluster's comes first: Airflow's environment takes the versions they share from it.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
  .local/uv/bin/uv pip compile --quiet --system-certs --no-python-downloads --python-version 3.11 --generate-hashes \
    --custom-compile-command "make lock" "$@"
}
compile requirements-build.in -o requirements-build.txt
compile --no-emit-package pyspark --no-emit-package py4j -c requirements-build.txt requirements-cluster.in -o requirements-cluster.txt
compile requirements-cluster-local.in -o requirements-cluster-local.txt
compile -c requirements-cluster.txt requirements.in -o requirements.txt
compile -c requirements.txt requirements-browser.in -o requirements-browser.txt
