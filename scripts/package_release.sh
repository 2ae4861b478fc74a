#!/usr/bin/env bash
# Builds gait under a version, sees that it says so and works, and packs it.
#
#   scripts/package_release.sh <version> <target> <folder>      leaves <folder>/gait-<version>-<target>.tar.gz
set -euo pipefail
[[ $# -eq 3 ]] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 6; }
readonly version=$1 target=$2
mkdir -p "$3"
readonly folder=$(cd "$3" && pwd)
cd "$(dirname "$0")/.."

GAIT_VERSION=$version cargo build --release --locked -p gait --target "$target"
readonly gait=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/$target/release/gait
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

said=$("$gait" version)
[[ $said == "gait $version" ]] || { echo "the program says \"$said\", not \"gait $version\"" >&2; exit 1; }
(cd "$work" && HOME=$work "$gait" demo && HOME=$work "$gait" verify run_demo)

name=gait-$version-$target
mkdir "$work/$name"
cp "$gait" LICENSE CHANGELOG.md docs/gate.md "$work/$name"
tar -C "$work" -czf "$folder/$name.tar.gz" "$name"
echo "$folder/$name.tar.gz"
