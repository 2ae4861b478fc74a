#!/usr/bin/env bash
# Verifies the files of a release before anybody gets them: SHA256SUMS names every archive and no other file, every sum
# fits, and this repository's release workflow attested every file for this tag. Then it sees that an altered file would
# have been refused.
#
#   scripts/verify_release.sh <folder> <owner/repository> <refs/tags/...>
#   scripts/verify_release.sh <folder> --sums-only                           for who has no attestations at hand
set -euo pipefail
[[ $# -eq 3 || ($# -eq 2 && $2 == --sums-only) ]] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 6; }
readonly repository=$2 ref=${3:-}
cd "$1"

fail() { echo "release: FAILED: $*" >&2; exit 2; }

[[ -f SHA256SUMS ]] || fail "there is no SHA256SUMS"
archives=$(ls -A | grep -vx SHA256SUMS | sort) || true
[[ -n $archives ]] || fail "there is no archive"
[[ $archives == "$(sed 's/^[0-9a-f]\{64\}  //' SHA256SUMS | sort)" ]] || fail "SHA256SUMS does not name the files that are there"
sha256sum --quiet --check --strict SHA256SUMS || fail "a sum does not fit"
echo "release: every sum fits"
[[ $repository != --sums-only ]] || exit 0

attested() {
    gh attestation verify "$1" --repo "$repository" --source-ref "$ref" \
        --signer-workflow "$repository/.github/workflows/release.yml"
}
while read -r file; do
    attested "$file" || fail "$file is not attested by the release workflow for $ref"
done < <(printf '%s\nSHA256SUMS\n' "$archives")

altered=$(mktemp)
trap 'rm -f "$altered"' EXIT
{ cat SHA256SUMS; echo; } > "$altered"
! attested "$altered" 2>/dev/null || fail "an altered file passes for attested"
echo "release: every file is attested, an altered one is refused"
