#!/usr/bin/env bash
# Runs two builds of gait in turn, one run of each after the other, so that whatever else the machine does slows both, and
# prints a table of the medians of both with their ratio. It judges nothing: a limit on a ratio would fail on a busy machine.
#
#   scripts/compare_releases.sh [old] [new]
#
# Each is a program, or a commit that is built in a tree of its own. By default the new one is the checkout, the old one
# the last tag, or the commit before where there is no tag. What the old one cannot do is left out of its column. What a
# decision costs inside of a process is no command: `cargo bench -p gait --bench decide` prints that.
set -euo pipefail
[[ $# -le 2 ]] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 6; }
cd "$(dirname "$0")/.."
command -v python3 >/dev/null || { echo "python3 is missing: it takes the times" >&2; exit 7; }
readonly built=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$(mktemp -d)
trap 'git worktree remove --force "$work/tree" 2>/dev/null || true; rm -rf "$work"' EXIT

# program <name> <program or commit>: leaves it in $work/<name>.
program() {
    if [[ -f $2 && -x $2 ]]; then
        cp "$2" "$work/$1"
        return
    fi
    git worktree add --quiet --detach "$work/tree" "$2"
    # One folder for all builds: a library that several need in the same version is compiled once.
    (cd "$work/tree" && CARGO_TARGET_DIR=$built cargo build --quiet --release --locked -p gait)
    cp "$built/release/gait" "$work/$1"
    git worktree remove --force "$work/tree"
}

readonly old=${1:-$(git describe --tags --abbrev=0 2>/dev/null || git rev-parse --short HEAD~1)}
program old "$old"
[[ $# -eq 2 ]] || cargo build --quiet --release --locked -p gait
program new "${2:-$built/release/gait}"

OLD=$old NEW=${2:-the checkout} WORK=$work python3 - <<'PY'
import http.client, json, os, shutil, socket, statistics, subprocess, sys, tempfile, time

work = os.environ["WORK"]
SIDES = ("old", "new")
RUNS, ASKED = 101, 2001
POLICY = """default_verdict: block
fail_closed: {enabled: true, required_fields: [targets]}
rules:
  - {name: secrets, priority: 1, effect: block, match: {data_classes: [secret]}}
  - name: read
    priority: 2
    effect: allow
    match: {tool_names: [tool.read], risk_classes: [low, medium]}
    endpoint: {path_allowlist: ['/srv/app/**']}
"""
INTENT = {
    "tool_name": "tool.read", "args": {"path": "/srv/app/config.yaml"},
    "targets": [{"kind": "path", "value": "/srv/app/config.yaml", "operation": "read", "endpoint_class": "fs.read"}],
    "context": {"identity": "a", "workspace": "/srv/app", "risk_class": "low", "session_id": "s1"},
}


class Failed(Exception):
    """A build that cannot do what is measured."""


class Side:
    """One build, in a folder of its own."""

    def __init__(self, name):
        self.program, self.folder = f"{work}/{name}", f"{work}/in-{name}"
        os.mkdir(self.folder, 0o700)
        for file, text in (("policy.yaml", POLICY), ("intent.json", json.dumps(INTENT))):
            with open(f"{self.folder}/{file}", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
                out.write(text)
        for args in (["keys", "init", "--out-dir", "keys"], ["demo"], ["regress", "init", "--from", "run_demo"]):
            self.run(args)

    def command(self, args):
        environment = {"HOME": self.folder, "PATH": os.environ["PATH"]}
        return {"args": [self.program, *args], "cwd": self.folder, "env": environment}

    def run(self, args):
        start = time.perf_counter()
        done = subprocess.run(**self.command([*args, "--json"]), capture_output=True, text=True)
        elapsed = time.perf_counter() - start
        if done.returncode != 0:
            raise Failed(f"{self.program} {' '.join(args)}: exit {done.returncode}: {done.stdout[:300].strip()}")
        return elapsed

    def serve(self):
        args = ["gate", "serve", "--policy", "policy.yaml", "--trace-dir", "", "--json", *SIGNED]
        self.service = subprocess.Popen(**self.command(args), stdout=subprocess.PIPE, text=True)
        said = self.service.stdout.readline()
        address = json.loads(said or "{}").get("listen")
        if address is None:
            raise Failed(f"{self.program} {' '.join(args)}: {said[:300].strip()}")
        self.connection = http.client.HTTPConnection("gate")
        self.connection.sock = socket.socket(socket.AF_UNIX)
        self.connection.sock.connect(os.path.join(self.folder, address))

    def ask(self):
        body = json.dumps({"intent": INTENT})
        start = time.perf_counter()
        self.connection.request("POST", "/v1/eval", body, {"content-type": "application/json"})
        answer = self.connection.getresponse().read()
        elapsed = time.perf_counter() - start
        if json.loads(answer).get("verdict") != "allow":
            raise Failed(f"{self.program} gate serve: {answer[:300]}")
        return elapsed


def row(what, of, times):
    """One line of the table; a build that has no times has failed."""
    taken = {side: of(times[side]) * 1000 for side in SIDES if times.get(side)}
    cells = [f"{taken[side]:.3f}" if side in taken else "-" for side in SIDES]
    cells.append(f"{taken['new'] / taken['old']:.2f}" if len(taken) == 2 else "-")
    print(f"| {what} | {' | '.join(cells)} |", flush=True)


def able(once):
    """The builds that can do it, after doing it twice."""
    can = []
    for side in SIDES:
        try:
            once(sides[side])
            once(sides[side])
            can.append(side)
        except Failed as failed:
            print(failed, file=sys.stderr)
            if side == "new":
                sys.exit(1)
    return can


def in_turn(count, once, builds):
    times = {side: [] for side in builds}
    for number in range(count):
        for side in builds if number % 2 == 0 else reversed(builds):
            times[side].append(once(sides[side]))
    return times


def late(times):
    return statistics.quantiles(times, n=100)[98]


SIGNED = ["--key-mode", "prod", "--private-key", "keys/gait_private.key"]
EVAL = ["gate", "eval", "--policy", "policy.yaml", "--intent", "intent.json", *SIGNED, "--trace-out"]
sides = {side: Side(side) for side in SIDES}
commands = {
    "version": ["version"],
    "verify, the demo": ["verify", "run_demo"],
    "gate eval, the trace on the disk": [*EVAL, "trace.json"],
    "regress run": ["regress", "run"],
    "guard pack": ["guard", "pack", "--run", "run_demo", "--out", "guard.zip"],
    "run replay, the demo": ["run", "replay", "run_demo"],
}
memory = tempfile.mkdtemp(dir="/dev/shm") if os.path.isdir("/dev/shm") else None
if memory:
    commands["gate eval, the trace in memory (no fsync)"] = [*EVAL, f"{memory}/trace.json"]
try:
    print(f"| median in ms, {os.cpu_count()} cores | {os.environ['OLD']} | {os.environ['NEW']} | ratio |")
    print("|---|---|---|---|")
    for what, args in commands.items():
        once = lambda side: side.run(args)
        row(f"{what}, {RUNS} runs", statistics.median, in_turn(RUNS, once, able(once)))
    serving = []
    for side in SIDES:
        try:
            sides[side].serve()
            serving.append(side)
        except Failed as failed:
            print(failed, file=sys.stderr)
    in_turn(50, Side.ask, serving)
    served = in_turn(ASKED, Side.ask, serving)
    row(f"gate serve, {ASKED} requests", statistics.median, served)
    row("gate serve, p99 of them, the client included", late, served)
finally:
    for side in sides.values():
        if hasattr(side, "service"):
            side.service.kill()
            side.service.wait()
    if memory:
        shutil.rmtree(memory)
PY
