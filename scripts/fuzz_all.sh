#!/usr/bin/env bash
# Fuzzes every target in turn, on its seeds and on what earlier runs found worth keeping. Ends at the first finding, whose
# input is below fuzz/artifacts.
#
#   scripts/fuzz_all.sh <toolchain> <seconds for each target>
set -euo pipefail
[[ $# -eq 2 ]] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 6; }
cd "$(dirname "$0")/.."
# Several targets write files, which are better in memory.
[[ ! -d /dev/shm ]] || export TMPDIR=/dev/shm

for target in $(cargo "+$1" fuzz list); do
    echo "== $target"
    mkdir -p "fuzz/corpus/$target"
    cargo "+$1" fuzz run --features libfuzzer "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$2" -rss_limit_mb=2048 -timeout=5
done
