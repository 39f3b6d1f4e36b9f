#!/usr/bin/env bash
# Realises images of real servers from Debian's packages, weighs them, and has each answer a request from its own files:
# as an ordinary user, in a network of its own. Sizes are those of the compressed layers. Downloads are kept for the run.
# Needs the Debian archive that apt uses, and for the answers bwrap, unshare and busybox.
set -euo pipefail
fail() { echo "serve: $*" >&2; exit 1; }

# With `inside` this script is in the network namespace, beside NAME.words and NAME.tree: starts the server, and asks it.
if [ "${1:-}" = inside ]; then
  name=$2
  busybox ip link set lo up
  words=()
  while IFS= read -r word; do words+=("$word"); done < "$name.words"
  bwrap --die-with-parent --unshare-user --uid 65532 --gid 65532 --unshare-pid --ro-bind "$name.tree" / --proc /proc --dev /dev \
    --tmpfs /tmp $([ "$name" != redis ] || echo --tmpfs /data) --clearenv --setenv PATH /usr/bin:/bin:/usr/sbin:/sbin \
    -- "${words[@]}" > "$name.log" 2>&1 &
  server=$!
  ask() {
    exec 3<> "/dev/tcp/127.0.0.1/$1" || return 1
    printf '%b' "$2" >&3
    timeout 5 cat <&3
    exec 3>&-
  } 2> /dev/null
  case "$name" in
    nginx) port=8080 question='GET / HTTP/1.0\r\n\r\n' answer='Served from a minimal image' ;;
    redis) port=6379 question='SET a 42\r\nGET a\r\nQUIT\r\n' answer='42' ;;
    flask-debian) port=8000 question='GET / HTTP/1.0\r\n\r\n' answer='Hello from Flask' ;;
  esac
  for _ in $(seq 100); do
    if got=$(ask "$port" "$question") && grep -qF "$answer" <<< "$got"; then
      kill "$server"
      exit 0
    fi
    kill -0 "$server" 2> /dev/null || break
    sleep 0.1
  done
  cat "$name.log" >&2
  fail "$name: expected \`$answer\`, got: ${got:-no answer}"
fi

cd "$(dirname "$0")/.."
cargo build --release --quiet
work=$(mktemp -d)
chmod 755 "$work"
trap 'chmod -R u+rwX "$work" && rm -rf "$work"' EXIT
install -m 755 target/release/ampoule "$work/ampoule"
install -m 755 tests/serve.sh "$work/serve.sh"
cp -r examples "$work/examples"
mkdir "$work/home"
user=()
if [ "$(id -u)" = 0 ]; then
  chown -R 54321:54321 "$work"
  user=(setpriv --reuid 54321 --regid 54321 --clear-groups)
fi
run() {
  "${user[@]}" env -i PATH="$PATH" HOME="$work/home" LC_ALL=C \
    ${AMPOULE_MIRROR_DEBIAN+AMPOULE_MIRROR_DEBIAN="$AMPOULE_MIRROR_DEBIAN"} sh -c 'cd "$1" && shift && exec "$@"' sh "$work/home" "$@"
}
ampoule() { run "$work/ampoule" "$@"; }
can_serve=yes
for program in bwrap busybox unshare; do
  command -v "$program" > /dev/null || { can_serve=; echo "serve: skipped: no $program, images are only weighed"; }
done

# NAME FILE BYTES: an image, and what it may weigh at most.
serve() {
  local name=$1 file=$2 most=$3 size start=$SECONDS
  ampoule realise "$work/examples/$file" -o "$name" > /dev/null 2> "$work/log" || { cat "$work/log" >&2; fail "$name is not realised"; }
  ampoule image inspect --json "$name" > "$work/home/$name.json"
  of() { ampoule eval --raw --expr "let image = builtins.fromJSON (builtins.readFile ./$name.json); in $1"; }
  size=$(of 'toString image.sizeBytes')
  [ "$size" -le "$most" ] || fail "$name: $size bytes compressed, at most $most"
  if [ -n "$can_serve" ]; then
    of 'let c = (builtins.head image.configs).config; in builtins.concatStringsSep "\n" (c.Entrypoint ++ c.Cmd or [ ]) + "\n"' > "$work/home/$name.words"
    run mkdir "$name.tree"
    ampoule image export --format rootfs "$name" - | run tar -x -C "$name.tree" --no-same-owner
    # Where a runtime mounts its own.
    run mkdir -p "$name.tree/proc" "$name.tree/dev" "$name.tree/tmp"
    run unshare --user --map-root-user --net bash "$work/serve.sh" inside "$name" || fail "$name does not answer"
  fi
  echo "serve: ok: $name, $size bytes compressed (at most $most)${can_serve:+, answers}, $((SECONDS - start)) s"
}

serve nginx nginx.img 6000000
serve redis redis.img 10000000
serve flask-debian flask-debian/flask.img 12000000
