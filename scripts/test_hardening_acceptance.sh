#!/usr/bin/env bash
# What blocks a release. Six areas, each proved twice: by tests that are named here, every one of which has to exist and
# pass, and by the built binary doing it once for real.
#
#   scripts/test_hardening_acceptance.sh
set -uo pipefail
cd "$(dirname "$0")/.."
command -v python3 >/dev/null || { echo "python3 is missing: it reads the answers" >&2; exit 7; }

failed=()

fail() {
    failed+=("$1")
    echo "  FAILED  $1"
}

# tests "<target>" name...: every name is one test, in whichever package and module, and passes. It is built as a part of
# the whole workspace, as `cargo test --workspace` does, so that nothing is compiled for it a second time.
tests() {
    local target=$1 output passed
    shift
    # shellcheck disable=SC2086  # the target is several words
    if ! output=$(cargo test --quiet --workspace $target -- "$@" 2>&1); then
        printf '%s\n' "$output" | tail -40
        fail "$target: a test failed or did not compile"
        return
    fi
    passed=$(printf '%s\n' "$output" | sed -n 's/.*test result: ok\. \([0-9]*\) passed.*/\1/p' | awk '{n += $1} END {print n + 0}')
    if [[ $passed -ne $# ]]; then
        fail "$target: $# tests are named and $passed ran: a name is wrong or part of another, or a test is ignored"
    else
        echo "  ok      $target: $passed"
    fi
}

# live "<what>" command...: the command, which uses the built binary, succeeds.
live() {
    local what=$1
    shift
    if "$@"; then echo "  ok      live: $what"; else fail "live: $what"; fi
}

# Building a test of gait builds gait too.
cargo test --quiet --workspace --test doctor --no-run || exit 1
binary=$(realpath "${CARGO_TARGET_DIR:-target}/debug/gait")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# gait arguments...: in a directory of its own, without the settings of whoever runs this.
gait() { (cd "$work" && HOME=$work exec "$binary" "$@"); }

# field <expression over the answer a>: prints it.
field() { python3 -c "import json,sys; a=json.load(sys.stdin); print($1)"; }

# exits <code> <expression that holds for the answer a> arguments...
exits() {
    local code=$1 holds=$2 answer found
    shift 2
    answer=$(gait "$@" --json 2>>"$work/stderr")
    found=$?
    printf '%s\n' "$answer" >>"$work/answers"
    [[ $found -eq $code ]] || { echo "gait $*: exit $found, not $code: $answer"; return 1; }
    [[ $(printf '%s' "$answer" | field "bool($holds)") == True ]] || { echo "gait $*: not $holds: $answer"; return 1; }
}

umask 077
secret=c2VjcmV0LXRoYXQtbm8tb3V0cHV0LW1heS1zaG93ISE=
cat >"$work/policy.yaml" <<'YAML'
default_verdict: block
rules:
  - name: allow-read
    effect: allow
    match: {tool_names: [tool.read], risk_classes: [low]}
    rate_limit: {requests: 5, window: hour, scope: tool_identity}
YAML
cat >"$work/intent.json" <<'JSON'
{"schema_id": "gait.gate.intent_request", "schema_version": "1.0.0", "created_at": "2026-02-05T00:00:00Z",
 "producer_version": "1.0.0", "tool_name": "tool.read", "args": {"path": "/tmp/x"},
 "targets": [{"kind": "path", "value": "/tmp/x", "operation": "read", "endpoint_class": "fs.read"}],
 "context": {"identity": "a", "workspace": "/w", "risk_class": "low"}}
JSON

echo "1 error envelopes"
tests "--test contract" \
    statuses_exit_codes_and_hints_of_every_category_are_stable \
    gait_has_exit_codes_for_failed_regressions_and_unsafe_operations \
    the_envelope_of_every_category_is_stable \
    the_envelope_is_the_gates_byte_for_byte \
    refusals_of_the_operating_system_have_codes_a_user_can_act_on
tests "--test gate_eval" \
    words_in_a_message_do_not_choose_the_category \
    every_input_is_checked_before_anything_is_written
tests "--test cli" \
    an_unknown_flag_is_refused_on_standard_output_in_both_modes \
    an_answer_that_nobody_can_read_is_a_failure
tests "--test failures" the_failures_are_those_of_the_golden_file
envelope='not a["ok"] and a["error"] and a["error_code"] and a["hint"] and a["correlation_id"] and a["retryable"] is False'
wrong_input() { exits 6 "$envelope and a['error_category'] == 'invalid_input'" gate eval --no-such-flag; }
corrupt_pack() {
    head -c 100 /dev/urandom >"$work/corrupt.zip"
    exits 2 "$envelope and a['error_category'] == 'verification_failed'" pack verify corrupt.zip
}
live "a wrong command line is invalid_input, exit 6" wrong_input
live "a corrupt pack is verification_failed, exit 2" corrupt_pack

echo "2 atomic writes"
tests "--test durable" \
    steps::a_replaced_file_is_old_or_new_and_new_once_acknowledged \
    steps::a_streamed_file_is_old_or_new_and_new_once_acknowledged \
    steps::a_created_file_is_absent_or_whole_and_whole_once_acknowledged \
    steps::an_appended_line_is_absent_or_whole_and_whole_once_acknowledged \
    steps::a_failed_write_removes_its_temporary_file_at_once \
    crash::a_killed_writer_leaves_every_acknowledged_file_and_record_whole \
    disk_full::past_the_file_size_limit_the_old_content_stays
tests "--test job" killed_at_any_moment_a_job_keeps_every_acknowledged_change
tests "--test kill_switch" a_writer_that_is_killed_at_any_moment_leaves_the_old_state_or_the_new
whole_run() {
    exits 0 'a["ok"]' demo && exits 0 'a["ok"]' verify run_demo || return
    local left
    left=$(find "$work" -name '*.tmp' -o -name '.*.tmp*' -o -name '*.partial')
    [[ -z $left ]] || { echo "left behind: $left"; return 1; }
}
killed_packs() {
    local round status
    for round in 1 2 3 4 5 6 7 8; do
        {
            (cd "$work" && HOME=$work timeout --signal=KILL "0.0$round" "$binary" pack build --from run_demo --out killed.zip --json >>answers)
        } 2>/dev/null
        [[ ! -e $work/killed.zip ]] || exits 0 'a["ok"]' pack verify killed.zip || return
    done
    exits 0 'a["ok"]' pack build --from run_demo --out killed.zip && exits 0 'a["ok"]' pack verify killed.zip
}
live "a run is written whole and nothing else is left" whole_run
live "a pack whose writer is killed is absent or whole" killed_packs

echo "3 contention"
tests "--test durable" \
    lock::threads_and_processes_racing_for_a_lock_lose_no_update \
    lock::of_many_that_take_over_a_dead_owners_lock_exactly_one_has_it \
    lock_file::threads_and_processes_racing_for_the_file_lose_no_update \
    lock_file::a_lock_that_somebody_took_for_stale_and_replaced_is_not_removed_by_its_old_owner
tests "--test gate_contention" \
    sixty_four_gates_on_one_limit_let_exactly_as_many_pass_as_it_says \
    of_sixty_four_gates_with_one_approval_for_one_use_one_passes
tests "--test gate_eval" a_held_lock_is_contention_that_may_be_retried_and_a_stale_one_is_taken_over
tests "--test job" sixteen_processes_at_once_lose_no_change
tests "--test kill_switch" of_sixty_four_that_add_at_once_every_entry_is_kept
exact_limit() {
    local number passed
    for number in $(seq 16); do
        gait gate eval --policy policy.yaml --intent intent.json --trace-out "trace_$number.json" --json >"$work/gate_$number" &
    done
    wait
    passed=$(grep -l '"verdict":"allow"' "$work"/gate_* | wc -l)
    cat "$work"/gate_* >>"$work/answers"
    [[ $passed -eq 5 ]] || { echo "$passed of 16 passed a limit of 5"; return 1; }
}
live "16 gates at once on a limit of 5: exactly 5 pass" exact_limit

echo "4 network retries"
tests "--lib" \
    a_passing_failure_is_tried_again_with_growing_deterministic_delays \
    each_failure_of_the_network_has_its_own_code_and_only_passing_ones_are_retried \
    attempts_and_delays_are_bounded \
    a_cached_copy_stands_in_only_when_asked_for_pinned_and_verified
tests "--test registry" \
    a_server_that_recovers_is_fetched_from \
    each_failure_of_a_server_has_its_code_category_and_exit \
    a_refused_port_is_a_passing_failure \
    a_pinned_cached_copy_stands_in_visibly
nobody_listens() {
    # A port that the kernel has just given out and taken back.
    local port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    exits 0 'a["ok"]' keys init --out-dir keys --prefix registry || return
    exits 1 "a['error_category'] == 'network_transient' and a['retryable'] is True and '2 attempts' in a['error']" \
        registry install --source "http://127.0.0.1:$port/p" --allow-insecure-http --allow-host 127.0.0.1 \
        --public-key keys/registry_public.key --cache-dir cache --retry-max-attempts 2 --retry-base-delay 1ms
}
live "a port where nobody listens: tried twice, network_transient, retryable" nobody_listens

echo "5 doctor"
tests "--lib" \
    the_checks_come_in_the_order_of_the_contract \
    looking_leaves_nothing_behind \
    a_stale_lock_is_looked_for_where_the_gate_takes_it \
    ambiguous_missing_and_open_keys_fail_the_whole_report
tests "--test doctor" the_exit_agrees_with_the_status an_ambiguous_key_fails
doctor_agrees() {
    local answer code
    answer=$(gait doctor --json)
    code=$?
    [[ $(printf '%s' "$answer" | field "(a['status'] == 'fail') == ($code != 0) and all(c['status'] == 'pass' or c.get('fix_command') for c in a['checks'] if c['status'] == 'fail')") == True ]] ||
        { echo "exit $code: $answer"; return 1; }
}
live "the exit agrees with the status and every failure names its repair" doctor_agrees

echo "6 no leak"
tests "--test secrets" no_command_repeats_a_planted_secret
tests "--test keys" no_output_repeats_a_secret_from_environment_file_or_argument
tests "--test gate_eval" a_brokered_credential_is_named_and_its_secret_is_nowhere
tests "--test guard" a_sealing_key_comes_from_one_place_and_is_never_shown
tests "--test mcp_serve" a_token_is_asked_for_and_never_shown
tests "--lib" a_token_in_the_query_of_an_address_is_not_shown
secret_nowhere() {
    # A sealing key by variable: good, and then too short to be one. Neither is anywhere but in the environment.
    export GAIT_ACCEPTANCE_KEY=$secret
    exits 0 'a["ok"]' guard encrypt --in trace_1.json --out sealed.json --key-env GAIT_ACCEPTANCE_KEY &&
        exits 0 'a["ok"]' guard decrypt --in sealed.json --out opened.json --key-env GAIT_ACCEPTANCE_KEY &&
        cmp "$work/trace_1.json" "$work/opened.json" || return
    export GAIT_ACCEPTANCE_KEY=${secret:0:20}
    exits 6 'not a["ok"]' guard decrypt --in sealed.json --out again.json --key-env GAIT_ACCEPTANCE_KEY || return
    ! grep -rlF "${secret:0:20}" "$work"
}
live "a key is in no answer, file or log" secret_nowhere

if [[ ${#failed[@]} -gt 0 ]]; then
    echo
    echo "hardening: ${#failed[@]} failed, the release is blocked"
    exit 1
fi
echo "hardening: every area holds"
