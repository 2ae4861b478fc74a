# The chores that other tools call by these names. Everything else is behind `cargo xtask`.

.PHONY: test-hardening check-budgets hooks check-hooks

# What blocks a release: error envelopes, atomic writes, contention, network retries, doctor, no leak.
test-hardening:
	scripts/test_hardening_acceptance.sh

# Time, memory and bytes written of the release build, against perf/resource_budgets.json.
check-budgets:
	scripts/check_resource_budgets.sh

# Turns on the hooks of this checkout.
hooks:
	git config core.hooksPath .githooks
	chmod +x .githooks/pre-push

# Says whether they are on.
check-hooks:
	scripts/check_hooks.sh
