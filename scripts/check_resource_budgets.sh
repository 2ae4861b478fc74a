#!/usr/bin/env bash
# Measures the built gait against perf/resource_budgets.json: median and p95 of wall time, CPU time, memory and bytes
# written, over several runs each; then CPU time and memory on a run of 100,000 records. Fails if a budget does not
# hold, after printing all of them. CPU time and memory are those of the process alone, so that a busy machine changes
# little about them; wall time is judged only where the machine is not busy.
#
#   scripts/check_resource_budgets.sh [path of gait]      default: the checkout's, built anew if it changed
set -euo pipefail
cd "$(dirname "$0")/.."

command -v python3 >/dev/null || { echo "python3 is missing: it reads what the kernel counted" >&2; exit 7; }
[[ $# -gt 0 ]] || cargo build --quiet --release -p gait
gait=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/release/gait}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

GAIT=$gait BUDGETS=$PWD/perf/resource_budgets.json WORK=$work python3 - <<'PY'
import ctypes, json, os, statistics, subprocess, sys, time

gait, work = os.environ["GAIT"], os.environ["WORK"]
budgets = json.load(open(os.environ["BUDGETS"]))
os.chdir(work)
environment = {"HOME": work, "PATH": os.environ["PATH"]}
failed = []
# Where others wait for the processor, wall time says nothing about gait.
busy = os.getloadavg()[0] > os.cpu_count()


def put(name, text):
    with open(name, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(text)


def prepare(*args):
    done = subprocess.run([gait, *args, "--json"], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"gait {' '.join(args)}: exit {done.returncode}: {done.stdout[:300].strip()}")


def has_command(name):
    usage = subprocess.run([gait, "--help"], env=environment, capture_output=True, text=True)
    return name in usage.stdout


# The peak of a process starts at that of the process it was forked from, so gait is forked from a shell, which is
# small, and not from this. Its exit comes here because the shell is gone by then (prctl(2): PR_SET_CHILD_SUBREAPER):
# it starts when nothing more can come from this, which is after the shell has ended.
if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0) != 0:
    sys.exit(f"cannot adopt orphans: {os.strerror(ctypes.get_errno())}")
FORK = 'exec 3>&1 4<&0 >answer 2>/dev/null; { read -r _ <&4; exec "$@" 3>&- 4<&-; } & echo $! >&3'


def once(args):
    command = ["sh", "-c", FORK, "sh", gait, *args, "--json"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        process = int(shell.stdout.readline())
        shell.wait()
        start = time.monotonic()
    _, status, used = os.wait4(process, 0)
    wall = (time.monotonic() - start) * 1000
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        sys.exit(f"gait {' '.join(args)}: exit {code}: {open('answer').read(300)}")
    return {
        "wall": wall,
        "cpu_ms": (used.ru_utime + used.ru_stime) * 1000,
        "max_rss_mib": used.ru_maxrss / 1024,
        "written_kib": used.ru_oublock / 2,
    }


def check(name, args, budget, repeats):
    runs = [once(args) for _ in range(repeats)]
    walls = sorted(run["wall"] for run in runs)
    found = {key: max(run[key] for run in runs) for key in ("cpu_ms", "max_rss_mib", "written_kib")}
    found["cpu_ms"] = statistics.median(run["cpu_ms"] for run in runs)
    found["median_ms"] = statistics.median(walls)
    found["p95_ms"] = walls[min(len(walls) - 1, int(len(walls) * 0.95))]
    for key, limit in budget.items():
        judged = not (busy and key in ("median_ms", "p95_ms"))
        verdict = "" if found[key] <= limit else "   EXCEEDED" if judged else "   not judged: the machine is busy"
        print(f"{name:<30}{key:<14}{found[key]:>12.1f} of {limit:>8}{verdict}")
        if judged and found[key] > limit:
            failed.append(f"{name} {key}")


POLICY = """default_verdict: block
rules:
  - name: allow-read
    effect: allow
    match: {tool_names: [tool.read], risk_classes: [low]}
"""
INTENT = {
    "schema_id": "gait.gate.intent_request", "schema_version": "1.0.0", "created_at": "2026-02-05T00:00:00Z",
    "producer_version": "1.0.0", "tool_name": "tool.read", "args": {"path": "/tmp/x"},
    "targets": [{"kind": "path", "value": "/tmp/x", "operation": "read", "endpoint_class": "fs.read"}],
    "context": {"identity": "a", "workspace": "/w", "risk_class": "low"},
}
put("policy.yaml", POLICY)
put("intent.json", json.dumps(INTENT))
prepare("demo")

repeats, commands = budgets["repeats"], {
    "verify": ["verify", "run_demo"],
    "gate_eval": ["gate", "eval", "--policy", "policy.yaml", "--intent", "intent.json", "--trace-out", "trace.json"],
    "regress_run": ["regress", "run"],
    "guard_pack": ["guard", "pack", "--run", "run_demo", "--out", "guard.zip"],
}
for name, args in commands.items():
    if name == "regress_run" and not has_command("regress run"):
        failed.append("regress_run: this build has no such command")
        continue
    if name == "regress_run":
        prepare("regress", "init", "--from", "run_demo")
    check(name, args, budgets["commands"][name], repeats)

# Written by a process of its own, which has all of it in memory.
LARGE = """
import json, sys
count, at = int(sys.argv[1]), "2026-02-14T00:00:00Z"
names = [f"intent_{number:06}" for number in range(count)]
args = {"content": "x" * 100}
json.dump({
    "run": {"run_id": "run_large", "created_at": at, "env": {"os": "linux", "arch": "amd64", "runtime": "go"},
            "timeline": [{"event": "tool_call", "ts": at, "ref": name} for name in names[:1000]]},
    "intents": [{"intent_id": name, "tool_name": "tool.write", "created_at": at, "args": args} for name in names],
    "results": [{"intent_id": name, "status": "ok", "created_at": at, "result": {"bytes": 100}} for name in names],
    "refs": {"receipts": []},
}, sys.stdout)
"""
count = budgets["records"]
with open("input.json", "w") as file:
    subprocess.run([sys.executable, "-c", LARGE, str(count)], stdout=file, check=True)
large = {
    "record": ["run", "record", "--input", "input.json", "--capture-mode", "raw"],
    "replay": ["run", "replay", "run_large"],
    "inspect": ["run", "inspect", "run_large"],
    "verify": ["verify", "run_large"],
    "pack_build": ["pack", "build", "--from", "run_large", "--out", "pack.zip"],
    "pack_verify": ["pack", "verify", "pack.zip"],
    "pack_inspect": ["pack", "inspect", "pack.zip"],
    "guard_pack": ["guard", "pack", "--run", "run_large", "--out", "large.zip"],
}
for name, args in large.items():
    check(f"{name}, {count} records", args, budgets["large"][name], 1)

if failed:
    sys.exit("budgets exceeded: " + ", ".join(failed))
print("every budget holds")
PY
