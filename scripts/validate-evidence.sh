#!/usr/bin/env bash
# Says whether a folder is a bundle of evidence (docs/operators/evidence.md): exit code 0 if so, 1 with the reason if
# not, 2 when it was called otherwise. It asks `cargo xtask evidence validate`, or the xtask that is named.
#
#   scripts/validate-evidence.sh DIR [path of xtask]
set -euo pipefail

if [[ $# -lt 1 || $# -gt 2 ]]; then
    echo "usage: scripts/validate-evidence.sh DIR [path of xtask]" >&2
    exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd)
if [[ $# -eq 2 ]]; then
    exec "$2" --root "$root" evidence validate "$1"
fi
exec cargo run --quiet --manifest-path "$root/Cargo.toml" --package xtask -- --root "$root" evidence validate "$1"
