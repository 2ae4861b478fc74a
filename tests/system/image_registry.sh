#!/usr/bin/env bash
# Images that other programs make, in a registry that others wrote: umoci makes one of Debian's busybox, skopeo carries it
# into layouts, archives and docker-registry, and it has to be the same image wherever it is imported from.
# The programs are installed from Debian where that is allowed; where it is not, the test is skipped and says so.
# Usage: tests/system/image_registry.sh PROGRAM
set -euo pipefail

skip() { echo "skipped: image_registry: $1"; exit 0; }
fail() { echo "FAILED image_registry: $1" >&2; tail -n 20 "$work"/*.log >&2 2>/dev/null || true; exit 1; }

program=$(realpath "${1:?usage: tests/system/image_registry.sh PROGRAM}")
readonly program packages=(umoci skopeo docker-registry busybox-static openssl)

tools() {
    local missing=()
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    [[ $(id -u) = 0 ]] && command -v apt-get >/dev/null || skip "${missing[*]} is missing and cannot be installed here"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 || skip "${missing[*]} cannot be installed"
}

command -v dpkg-query >/dev/null || skip "this is no Debian"
tools
work=$(mktemp -d)
servers=()
clean() {
    [[ ${#servers[@]} -eq 0 ]] || kill "${servers[@]}" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap clean EXIT
export WORLDCOMPUTE_HOME=$work/home

# field NAME: a member of the JSON object on standard input.
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
imported() { "$program" --json image import "$@" 2>"$work/import.log" | field cid; }
# is CID SOURCE...: SOURCE is imported as the image CID.
is() {
    local expected=$1 got
    shift
    got=$(imported "$@") || fail "import $*: $(cat "$work/import.log")"
    [[ $got = "$expected" ]] || fail "import $*: $got instead of $expected"
}
# refused CODE SOURCE...
refused() {
    local code=$1
    shift
    ! "$program" --json image import "$@" >"$work/refused.log" 2>&1 || fail "import $* was not refused"
    grep -q "\"error_code\":\"$code\"" "$work/refused.log" || fail "import $*: $(cat "$work/refused.log")"
}

# Three layers: the shell, a change, and a removal.
make_image() {
    umoci init --layout "$work/layout"
    umoci new --image "$work/layout:hello"
    for step in 1 2 3; do
        umoci unpack --rootless --image "$work/layout:hello" "$work/bundle$step"
        local root=$work/bundle$step/rootfs
        case $step in
            1) mkdir -p "$root/bin" "$root/etc"; cp /bin/busybox "$root/bin/busybox"; ln -s busybox "$root/bin/sh"
               echo "root:x:0:0:root:/root:/bin/sh" >"$root/etc/passwd" ;;
            2) echo "one" >"$root/etc/one"; echo "two" >"$root/etc/two" ;;
            3) rm "$root/etc/one" ;;
        esac
        umoci repack --image "$work/layout:hello" "$work/bundle$step"
    done
    umoci config --image "$work/layout:hello" --config.entrypoint /bin/sh --config.entrypoint=-c \
        --config.cmd "echo hello" --config.env A=1 --config.workingdir /etc --config.user root
} >"$work/umoci.log" 2>&1

# serve NAME: a registry of its own, whose settings are on standard input; its port is in $port.
serve() {
    cat >"$work/$1.yml"
    : >"$work/$1.log"
    docker-registry serve "$work/$1.yml" >>"$work/$1.log" 2>&1 &
    servers+=($!)
    port=
    for _ in $(seq 300); do
        port=$(sed -n 's/.*listening on [^"]*:\([0-9][0-9]*\).*/\1/p' "$work/$1.log" | head -n 1)
        [[ -z $port ]] || return 0
        kill -0 "${servers[-1]}" 2>/dev/null || fail "docker-registry did not start"
        sleep 0.1
    done
    fail "docker-registry did not say where it listens"
}

settings() {
    echo "{ version: 0.1, log: { level: info, formatter: text }, storage: { filesystem: { rootdirectory: $work/$1 } }, http: { addr: \"$2\"$3 } }"
}

make_image || fail "umoci made no image"
cid=$(imported "$work/layout" --name hello) || fail "a layout of umoci: $(cat "$work/import.log")"
"$program" --json image inspect hello >"$work/inspected.log" || fail "inspect"
digest=$(field digest <"$work/inspected.log")
[[ $digest = "$(skopeo inspect --format '{{.Digest}}' "oci:$work/layout:hello")" ]] || fail "skopeo calls it otherwise"
grep -q '"entrypoint":\["/bin/sh","-c"\]' "$work/inspected.log" || fail "the entrypoint is another"

copy() { skopeo --insecure-policy copy -q "$@" >"$work/skopeo.log" 2>&1 || fail "skopeo copy $*"; }
copy "oci:$work/layout:hello" "oci-archive:$work/layout.tar:hello"
is "$cid" "$work/layout.tar"
copy "oci:$work/layout:hello" "docker-archive:$work/saved.tar:hello:1"
saved=$(imported "$work/saved.tar") || fail "an archive of skopeo: $(cat "$work/import.log")"
is "$saved" "$work/saved.tar" --select docker.io/library/hello:1

serve plain < <(settings plain 127.0.0.1:0 "")
plain=127.0.0.1:$port
copy --dest-tls-verify=false "oci:$work/layout:hello" "docker://$plain/team/hello:1"
is "$cid" "$plain/team/hello:1"
is "$cid" "$plain/team/hello@$digest"
refused image_not_found "$plain/team/other:1"
copy --dest-tls-verify=false --format v2s2 "docker-archive:$work/saved.tar" "docker://$plain/team/hello:docker"
docker=$(imported "$plain/team/hello:docker") || fail "schema 2: $(cat "$work/import.log")"
"$program" --json image inspect "$docker" >"$work/docker.log" || fail "inspect schema 2"
# Where there are no blobs yet that could be taken as they are.
serve zstd < <(settings zstd 127.0.0.1:0 "")
copy --dest-tls-verify=false --format oci --dest-compress --dest-compress-format zstd \
    "docker-archive:$work/saved.tar" "docker://127.0.0.1:$port/team/hello:zstd"
skopeo inspect --tls-verify=false --raw "docker://127.0.0.1:$port/team/hello:zstd" | grep -q "tar+zstd" || fail "skopeo made no zstd"
zstd=$(imported "127.0.0.1:$port/team/hello:zstd") || fail "zstd: $(cat "$work/import.log")"
"$program" --json image inspect "$zstd" >"$work/zstd.json" || fail "inspect zstd"

# The same over TLS, under a name that is not loopback's: trusted with its certificate alone.
name=$(hostname)
if getent hosts "$name" >/dev/null; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$name" \
        -addext "subjectAltName=DNS:$name" -addext "basicConstraints=critical,CA:FALSE" -keyout "$work/key.pem" -out "$work/cert.pem" 2>"$work/openssl.log"
    serve tls < <(settings plain 0.0.0.0:0 ", tls: { certificate: $work/cert.pem, key: $work/key.pem }")
    refused registry_untrusted "$name:$port/team/hello:1"
    SSL_CERT_FILE=$work/cert.pem is "$cid" "$name:$port/team/hello:1"
    tls="and over TLS"
else
    tls="(TLS was not tried: $name has no address)"
fi
echo "image_registry: one image from a layout, two kinds of archive and docker-registry, gzip and zstd, $tls"
