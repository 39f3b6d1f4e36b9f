#!/bin/sh
# Builds an example, runs its image in a container and asks it for something.
#
#   examples/serve.sh nginx
#
# Needs podman, or else bwrap and jq; curl for most. `AMPOULE` names the program, `AMPOULE_FLAGS` what stands before
# `realise`, such as `--store DIR`; `RUN=bwrap` chooses. Ports are the host's.
set -eu
name=${1:?"which example? $(cd "$(dirname "$0")" && ls ./*.img)"}
here=$(cd "$(dirname "$0")" && pwd)
ampoule="${AMPOULE:-ampoule} ${AMPOULE_FLAGS:-}"
work=$(mktemp -d)
cd "$work"

# What each one is asked, and what its answer has in it.
case "$name" in
    static-hello) file=static-hello.img; want='Hello from an image of one file' ;;
    hello) file=hello.img; want='hello from ampoule, as uid 65532' ;;
    multi-arch) file=multi-arch.img; want=$(uname -m) ;;
    nginx) file=nginx.img; ask='curl -sS http://127.0.0.1:8080/'; want='minimal image' ;;
    upstream-nginx) file=upstream-nginx.img; ask='curl -sS -i http://127.0.0.1:8080/'; want='nginx/1.22.1' ;;
    flask) file=flask/flask.img; ask='curl -sS http://127.0.0.1:8000/'; want='Hello from Flask' ;;
    flask-debian) file=flask-debian/flask.img; ask='curl -sS http://127.0.0.1:8000/'; want='Hello from Flask' ;;
    express) file=express/express.img; ask='curl -sS http://127.0.0.1:8000/?name=you'; want='Hello, you, from Express' ;;
    rust-service) file=rust-service/service.img; ask='curl -sS --data one,two,one http://127.0.0.1:8080/'; want='"one":2' ;;
    redis) file=redis.img; want='+PONG'
        ask='python3 -c "import socket; s = socket.create_connection((\"127.0.0.1\", 6379)); s.send(b\"PING\r\n\"); print(s.recv(99))"' ;;
    squid) file=squid.img; want='Via: 1.1 squid (squid/5.7)'
        echo "through the proxy" > page
        python3 -m http.server 18111 --bind 127.0.0.1 > /dev/null 2>&1 &
        helper=$!
        ask='curl -sS -i -x http://127.0.0.1:3128 http://127.0.0.1:18111/page' ;;
    *) echo "serve.sh: nothing is known of $name" >&2; exit 2 ;;
esac

finish() {
    if [ -n "${container:-}" ]; then podman rm -f -t 1 "$container" > /dev/null; fi
    if [ -n "${image:-}" ]; then podman rmi -f "$image" > /dev/null; fi
    if [ -n "${server:-}" ]; then kill "$server" 2> /dev/null || true; fi
    if [ -n "${helper:-}" ]; then kill "$helper"; fi
    cd /
    chmod -R u+w "$work" && rm -rf "$work"
}
trap finish EXIT

$ampoule realise "$here/$file"

start_podman() {
    $ampoule image load --to podman result > loaded
    image=$(sed -n 's/^Loaded image: //p' loaded)
    set -- --network host --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --read-only --tmpfs /tmp "$image"
    if ! command -v crun > /dev/null; then runtime='--runtime runc'; fi
    if [ -n "${ask:-}" ]; then container=$(podman ${runtime:-} run -d "$@"); else podman ${runtime:-} run --rm "$@" > answer; fi
}

# The files of the image as the root, as the user of the image. Words of the command are taken one to a line.
start_bwrap() {
    mkdir tree
    $ampoule image export --format rootfs result - | tar -x -C tree --no-same-owner
    $ampoule image inspect --json result > image.json
    config='first(.. | objects | select(has("Entrypoint")))'
    jq -r "$config | .Entrypoint[], (.Cmd // [])[]" image.json > words
    dir=$(jq -r "$config.WorkingDir // \"/\"" image.json)
    set --
    while IFS= read -r word; do set -- "$@" "$word"; done < words
    set -- --unshare-user --uid 65532 --gid 65532 --unshare-pid --bind tree / --proc /proc --dev /dev --tmpfs /tmp --chdir "$dir" -- "$@"
    if [ -n "${ask:-}" ]; then bwrap --die-with-parent "$@" > server.log 2>&1 & server=$!; else bwrap "$@" > answer; fi
}

if [ "${RUN:-podman}" = podman ] && command -v podman > /dev/null; then start_podman; else start_bwrap; fi

tries=0
while [ -n "${ask:-}" ] && ! { eval "$ask" > answer 2>&1 && grep -qF "$want" answer; } && [ $tries -lt 50 ]; do
    tries=$((tries + 1))
    sleep 0.2
done
cat answer
grep -qF "$want" answer || { echo "serve.sh: $name does not answer with: $want" >&2; exit 1; }
