#!/usr/bin/env bash
# Says whether git runs the hooks of this checkout before a push.
set -euo pipefail
cd "$(dirname "$0")/.."

configured=$(git config --get core.hooksPath || true)
if [[ $configured != .githooks ]]; then
    echo "git runs hooks from '${configured:-its default folder}', not from .githooks: make hooks" >&2
    exit 1
fi
[[ -x .githooks/pre-push ]] || { echo ".githooks/pre-push cannot be run: chmod +x .githooks/pre-push" >&2; exit 1; }
echo "hooks: .githooks/pre-push runs before a push"
