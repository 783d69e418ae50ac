#!/usr/bin/env bash
# Pack the packages that `recapture run` needs for a Linux machine with CPython 3.12 that reaches no registry
# and has some of them already, torch among them.
#   pack_stack.sh THERE OUT [PART_MIB]
# THERE: the machine's packages, as `pip list --format=freeze` prints them there. OUT: a new folder.
# There:  cat part* | xz -dc | tar x -C DIR; export PYTHONPATH=DIR/site:PROJECT/src
set -euo pipefail
project=$(cd "$(dirname "$0")/../.." && pwd)
there=$(realpath "$1"); out=$(realpath -m "$2"); part=${3:-60}
mkdir -p "$out/wheels" "$out/pack/site"

# What only tests and development need, and torch with its CUDA libraries, which the machine must have.
unneeded='^(mypy|mypy_extensions|ruff|moto|boto3|botocore|aiobotocore|s3fs|s3transfer|aioitertools|cfn-lint|hypothesis|pytest.*|pandas-stubs|types-.*|psycopg.*|virtualenv|py-spy|skops|docker|openapi-.*|py-partiql-parser|aws-xray-sdk|librt|responses|xmltodict|graphql-core|import-linter|grimp|torch|triton|nvidia.*)$'
# Packages whose version matters to what is brought, so that they are brought although the machine has some.
bring='^(typing-extensions|typing-inspection|click|typer|rich|anyio|packaging|fsspec)$'

name() { sed -E 's/[=<> ;@].*//; s/_/-/g' | tr '[:upper:]' '[:lower:]'; }
name < "$there" > "$out/there.txt"
grep -E '^[A-Za-z]' "$project/constraints.txt" | while read -r line; do
  package=$(name <<< "$line")
  if grep -qE "$unneeded" <<< "$package"; then continue; fi
  if grep -qxF "$package" "$out/there.txt" && ! grep -qE "$bring" <<< "$package"; then continue; fi
  echo "${line%% *}"
done > "$out/wanted.txt"

for_there=(--no-deps --only-binary=:all: --python-version 3.12 --implementation cp)
for version in _2_28 _2_27 _2_24 _2_17 2014 1; do for_there+=(--platform "manylinux${version}_x86_64"); done
python3 -m pip download --quiet "${for_there[@]}" -d "$out/wheels" -r "$out/wanted.txt"
python3 -m pip install --quiet --no-index --no-compile "${for_there[@]}" --target "$out/pack/site" "$out"/wheels/*.whl
cd "$out/pack/site"
rm -rf ray/dashboard/client ray/jars ray/cpp ray/rllib ray/llm mlflow/server/js prefect/server/ui prefect/server/ui_v2
tar cf - -C "$out/pack" site | xz -T0 -6 | split -b "${part}M" -d - "$out/part"
ls -l "$out"/part*
