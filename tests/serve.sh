#!/usr/bin/env bash
# Realises images of real servers from Debian's packages, weighs them, and has each answer a request from its own files, without rights,
# on a read-only root, in a network of its own. As root umoci unpacks the image and runc runs it as its configuration says; otherwise, or where
# runc can make no container, bwrap starts the server in the files that `ampoule image export` gives. Downloads are kept for the run.
# Needs the Debian archive that apt uses, and for the answers umoci, runc and nsenter, or bwrap, unshare and busybox.
set -euo pipefail
fail() { echo "serve: $*" >&2; exit 1; }

# NAME: asks until the server answers as it should, or the process of $server has ended.
ask_until() {
  local name=$1 port question answer got=
  case "$name" in
    nginx) port=8080 question='GET / HTTP/1.0\r\n\r\n' answer='Served from a minimal image' ;;
    redis) port=6379 question='SET a 42\r\nGET a\r\nQUIT\r\n' answer='42' ;;
    flask-debian) port=8000 question='GET / HTTP/1.0\r\n\r\n' answer='Hello from Flask' ;;
  esac
  ask() {
    exec 3<> "/dev/tcp/127.0.0.1/$port" || return 1
    printf '%b' "$question" >&3
    timeout 5 cat <&3
    exec 3>&-
  } 2> /dev/null
  for _ in $(seq 100); do
    if got=$(ask) && grep -qF "$answer" <<< "$got"; then return; fi
    kill -0 "$server" 2> /dev/null || break
    sleep 0.1
  done
  cat "$name.log" >&2
  fail "$name: expected \`$answer\`, got: ${got:-no answer}"
}

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
  ask_until "$name"
  kill "$server"
  exit 0
fi
# With `beside` it is in the network of the container whose process is given.
if [ "${1:-}" = beside ]; then
  server=$3
  ask_until "$2"
  exit 0
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
has() { local program; for program in "$@"; do command -v "$program" > /dev/null || return 1; done; }
can_run= can_serve=
if [ "$(id -u)" = 0 ] && has umoci runc nsenter; then can_run=yes; fi
if has bwrap busybox unshare; then can_serve=yes; fi
[ -n "$can_run$can_serve" ] || echo "serve: skipped: neither umoci and runc (as root) nor bwrap, busybox and unshare: images are only weighed"

# NAME: the image as umoci unpacks it, with a read-only root and without rights, run by runc. Fails where runc can make no container.
by_runc() {
  local name=$1 id="serve-$1-$$" bundle="$work/$1.bundle"
  umoci unpack --image "$work/home/$name:latest" "$bundle" > "$work/log" 2>&1 || { cat "$work/log" >&2; fail "umoci does not unpack $name"; }
  cp "$bundle/config.json" "$work/home/$name.spec.json"
  chmod 644 "$work/home/$name.spec.json"
  # Volumes belong to the user, as Docker makes them; umoci leaves them to root.
  ampoule eval --raw --expr "
    let
      spec = builtins.fromJSON (builtins.readFile ./$name.spec.json);
      none = { bounding = [ ]; effective = [ ]; permitted = [ ]; inheritable = [ ]; ambient = [ ]; };
      own = mount: if mount.source == \"none\" then mount // { options = mount.options ++ [ \"uid=65532\" ]; } else mount;
      tmp = { destination = \"/tmp\"; type = \"tmpfs\"; source = \"tmpfs\"; options = [ \"nosuid\" \"nodev\" \"mode=1777\" ]; };
    in builtins.toJSON (spec // {
      root = spec.root // { readonly = true; };
      process = spec.process // { terminal = false; rlimits = [ ]; capabilities = none; noNewPrivileges = true; };
      mounts = map own spec.mounts ++ [ tmp ];
    })" > "$bundle/config.json"
  if ! runc run --bundle "$bundle" --detach --pid-file "$work/pid" "$id" < /dev/null > "$work/$name.log" 2>&1; then
    runc delete --force "$id" 2> /dev/null || true
    echo "serve: runc makes no container here: $(tail -n 1 "$work/$name.log")"
    return 1
  fi
  local answers=yes pid
  pid=$(cat "$work/pid")
  (cd "$work" && nsenter --target "$pid" --net bash "$work/serve.sh" beside "$name" "$pid") || answers=
  runc delete --force "$id"
  rm -rf "$bundle"
  [ -n "$answers" ] || fail "$name does not answer"
}

# NAME: the image's files as a root for bwrap.
by_bwrap() {
  local name=$1
  of 'let c = (builtins.head image.configs).config; in builtins.concatStringsSep "\n" (c.Entrypoint ++ c.Cmd or [ ]) + "\n"' > "$work/home/$name.words"
  run mkdir "$name.tree"
  ampoule image export --format rootfs "$name" - | run tar -x -C "$name.tree" --no-same-owner
  # Where a runtime mounts its own.
  run mkdir -p "$name.tree/proc" "$name.tree/dev" "$name.tree/tmp"
  run unshare --user --map-root-user --net bash "$work/serve.sh" inside "$name" || fail "$name does not answer"
}

# NAME FILE BYTES: an image, and what it may weigh at most.
serve() {
  local name=$1 file=$2 most=$3 size how= start=$SECONDS
  ampoule realise "$work/examples/$file" -o "$name" > /dev/null 2> "$work/log" || { cat "$work/log" >&2; fail "$name is not realised"; }
  ampoule image inspect --json "$name" > "$work/home/$name.json"
  of() { ampoule eval --raw --expr "let image = builtins.fromJSON (builtins.readFile ./$name.json); in $1"; }
  size=$(of 'toString image.sizeBytes')
  [ "$size" -le "$most" ] || fail "$name: $size bytes compressed, at most $most"
  if [ -n "$can_run" ] && by_runc "$name"; then
    how=", answers (runc)"
  elif [ -n "$can_serve" ]; then
    by_bwrap "$name"
    how=", answers (bwrap)"
  fi
  echo "serve: ok: $name, $size bytes compressed (at most $most)$how, $((SECONDS - start)) s"
}

serve nginx nginx.img 6000000
serve redis redis.img 10000000
serve flask-debian flask-debian/flask.img 12000000
