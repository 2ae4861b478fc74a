#!/bin/sh
# Two nodes, one image, and jobs that end in every way that matters to a submitter. Needs nothing but a shell and busybox.
# Usage: jobs.sh PROGRAM LAYOUT FOLDER BACKEND
set -eu
program=$1 layout=$2 folder=$3 backend=$4

fail() {
    echo "FAILED jobs: $1" >&2
    for side in donor submitter; do tail -n 30 "$folder/$side/log/daemon.log" >&2 || true; done
    exit 1
}
on() { side=$1; shift; "$program" --home "$folder/$side" "$@"; }
clean() { for side in donor submitter; do on "$side" donor leave --json >/dev/null 2>&1 || true; done; wait; }

# join SIDE ...: its address is in $address.
join() {
    side=$1
    shift
    : >"$folder/$side.ready"
    on "$side" donor join --json --no-mdns --no-default-relays --port 0 "$@" >"$folder/$side.ready" 2>"$folder/$side.err" &
    tries=0
    until address=$(grep -o '/ip4/127[^"]*/tcp/[^"]*' "$folder/$side.ready"); do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail "$side did not start: $(cat "$folder/$side.err")"
        sleep 0.1
    done
}

# job LINES: submits the image with these lines in its spec, and waits for its end; its id is in $id, what was said in $said.
job() {
    printf 'apiVersion: worldcompute/v1\nkind: Job\nmetadata: {name: test}\nspec:\n  image: oci+cid:%s\n%s\n' \
        "$image" "$1" >"$folder/job.yaml"
    # More than a donor takes for the slowest of them, so that what hangs is told with the logs of both nodes.
    said=$(timeout 300 "$program" --home "$folder/submitter" --json job submit "$folder/job.yaml" --watch 2>&1) && code=0 || code=$?
    id=$(echo "$said" | sed -n 's/.*"job_id":"\([0-9A-Z]*\)".*/\1/p' | head -n 1)
    [ -n "$id" ] || fail "no job of $1: $said"
}
result() { on submitter job results "$id" "$@"; }
# succeeds LINES / ends CODE TEXT LINES: as it has to, and its evidence verifies.
succeeds() { job "$1"; [ "$code" = 0 ] || fail "$1: $said"; verified; }
ends() {
    job "$3"
    [ "$code" = "$1" ] || fail "$3: exit $code, not $1: $said"
    echo "$said" | grep -q "$2" || fail "$3: no '$2' in $said"
    verified
}
verified() { on submitter verify "$folder/submitter/evidence/$id" >"$folder/verified" 2>&1 || fail "$id: $(cat "$folder/verified")"; }
is() { [ "$1" = "$2" ] || fail "'$1' instead of '$2'"; }

mkdir -p "$folder"
trap clean EXIT
on donor doctor --json >"$folder/doctor" || fail "doctor: $(cat "$folder/doctor")"
grep -q "\"backend\":\"$backend\",\"hypervisors\"" "$folder/doctor" || fail "images do not run on $backend: $(cat "$folder/doctor")"
image=$(on submitter --json image import "$layout" --name busybox | sed -n 's/.*"cid":"\([^"]*\)".*/\1/p')
[ -n "$image" ] || fail "the image was not imported"
# Whoever submits runs no images itself: every task goes to the other node.
sed -i 's/^images = true/images = false/' "$folder/submitter/config.toml"
grep -q '^images = false' "$folder/submitter/config.toml" || fail "the submitter would run images itself"
join donor
donor=$(sed -n 's/.*"peer_id":"\([^"]*\)".*/\1/p' "$folder/donor.ready")
join submitter --bootstrap "$address"

succeeds ''
is "$(result)" hello
echo "$said" | grep -q "$donor" || fail "another node ran it: $said"
receipt=$(ls "$folder/submitter/evidence/$id/receipts"/* | head -n 1)
on submitter verify "$receipt" >"$folder/words" 2>&1 || fail "the receipt: $(cat "$folder/words")"

ends 1 'exit code 7' '  command: ["exit 7"]'

echo "over standard input" >"$folder/stdin"
echo "as a file" >"$folder/file"
succeeds "  command: ['cat - /data/in.txt; echo \$A \$B \$(id -un) \$PWD; echo kept > /out/kept; : > /out/empty; yes abcdefg | head -c 1048576 >&2']
  env: {B: job}
  stdin: ./stdin
  inputs: [{file: ./file, mount: /data/in.txt}]
  outputs: [{name: kept, path: /out/kept}, {name: empty, path: /out/empty}]"
is "$(result)" "over standard input
as a file
image job worker /tmp"
is "$(result --name kept)" kept
is "$(result --name empty | wc -c)" 0
is "$(result --name stderr | wc -c)" 1048576

# There is no network, and nothing of the job before.
succeeds "  command: ['ls /sys/class/net; wget -T 2 -q http://169.254.169.254/ 2>/dev/null || echo unreachable; ls /out /data 2>/dev/null || echo gone']"
is "$(result)" "lo
unreachable
gone"

if [ "$backend" = qemu_emulation ]; then
    succeeds "  array: {count: 3}
  command: ['echo \$WC_TASK_INDEX of \$WC_TASK_COUNT']"
    is "$(result --task 2)" "2 of 3"
    ends 1 'output missing' "  outputs: [{name: kept, path: /out/kept}]"
    ends 1 'by a signal' "  command: ['kill -9 \$\$']"
    ends 1 'ran out of memory' "  command: ['x=x; while :; do x=\$x\$x; done']
  resources: {memory: 192Mi}"
    ends 1 'wrote too much' "  command: ['exec yes']
  resources: {scratch: 1Mi}"
    ends 1 'too many processes' "  command: ['bomb() { bomb | bomb & }; bomb; sleep 20; exec /bin/sh -c \"true | true; exit 3\"']
  resources: {memory: 512Mi}"
    ends 1 'exit code 3' "  command: ['cat /dev/zero >/tmp/fill; exit 3']
  resources: {scratch: 1Mi}"
    result --name stderr | grep -q 'No space left' || fail "a full disk said: $(result --name stderr)"
    ends 1 'max_wall_time' "  command: ['while :; do :; done']
  max_wall_time: 5s"
fi
clean
trap - EXIT
left=$(ls "$folder/donor" | tr '\n' ' ')
case " $left" in *" microvm "* | *" rootfs "*) fail "a donor that left has left behind: $left" ;; esac
echo "jobs: all came to their own ends on $backend"
