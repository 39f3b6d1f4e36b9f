#!/usr/bin/env bash
# Runs the README's first command as a newcomer would: an ordinary user, an empty home, nothing but the checkout.
# Then again from another directory, as another user, with another umask and locale: the digest must not move;
# and a second run with nothing changed must fetch, build and write nothing. Needs the Debian archive that apt uses.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "first-command: $*" >&2; exit 1; }

cargo build --release --quiet
work=$(mktemp -d)
chmod 755 "$work"
trap 'chmod -R u+rwX "$work" && rm -rf "$work"' EXIT
install -m 755 target/release/ampoule "$work/ampoule"
cp -r examples "$work/examples"

# ampoule_as UID HOME DIR UMASK LOCALE ARGUMENT… -- prints stdout; stderr goes to HOME/log
ampoule_as() {
  local uid=$1 home=$2 dir=$3 mask=$4 locale=$5
  shift 5
  mkdir -p "$home" "$dir"
  local run=(env -i PATH="$PATH" HOME="$home" LC_ALL="$locale"
    ${AMPOULE_MIRROR_DEBIAN+AMPOULE_MIRROR_DEBIAN="$AMPOULE_MIRROR_DEBIAN"}
    sh -c 'umask "$1"; cd "$2"; shift 2; exec "$@"' sh "$mask" "$dir" "$work/ampoule" "$@")
  if [ "$(id -u)" = 0 ] && [ "$uid" != 0 ]; then
    chown "$uid:$uid" "$home" "$dir"
    run=(setpriv --reuid "$uid" --regid "$uid" --clear-groups "${run[@]}")
  fi
  "${run[@]}" 2>"$home/log" || { cat "$home/log" >&2; fail "as uid $uid in $dir: \`$*\` failed"; }
}
realise() { ampoule_as "$@" realise "$work/examples/hello.img"; }

digest_of() { grep -oE 'sha256:[0-9a-f]{64}' <<<"$1" | head -1; }

other=$(id -u)
first=$(realise 54321 "$work/home-a" "$work/dir-a" 022 C)
echo "$first"
digest=$(digest_of "$first")
[ -n "$digest" ] || fail "no digest was printed"

second=$(realise 54321 "$work/home-a" "$work/dir-a" 022 C)
[ "$(digest_of "$second")" = "$digest" ] || fail "the second run gave another digest"
if grep -qE '^(fetch|build|layer)' "$work/home-a/log"; then cat "$work/home-a/log" >&2; fail "the second run did something"; fi

elsewhere=$(realise "$other" "$work/home-b" "$work/some where/else" 077 C.UTF-8)
[ "$(digest_of "$elsewhere")" = "$digest" ] || fail "another user, directory, umask and locale gave another digest"

# A project from a template, by the same newcomer.
for template in hello static-c; do
  ampoule_as 54321 "$work/home-a" "$work/dir-a" 022 C init --template "$template" "$template" >/dev/null
  made=$(ampoule_as 54321 "$work/home-a" "$work/dir-a/$template" 022 C realise)
  [ -n "$(digest_of "$made")" ] || fail "the template $template gave no image: $made"
done

layout=$(readlink -f "$work/dir-a/result")
[ -f "$layout/oci-layout" ] || fail "$layout is no OCI layout"
said() { echo "first-command: $*"; }
if command -v skopeo >/dev/null; then
  skopeo inspect "oci:$layout" >/dev/null && said "skopeo inspects it"
  skopeo copy -q "oci:$layout" "docker-archive:$work/copy.tar:hello:latest" && said "skopeo copies it"
else said "skopeo is not here: not tried"; fi
if command -v umoci >/dev/null && [ "$(id -u)" = 0 ]; then
  tag=$(grep -oE '"org.opencontainers.image.ref.name": *"[^"]*"' "$layout/index.json" | head -1 | sed 's/.*: *"//; s/"$//')
  umoci unpack --image "$layout:${tag:-latest}" "$work/bundle" >/dev/null 2>&1 || fail "umoci does not unpack it"
  said "umoci unpacks it"
  if command -v runc >/dev/null; then
    sed -i 's/"terminal": *true/"terminal": false/' "$work/bundle/config.json"
    out=$(cd "$work/bundle" && runc --root "$work/runc" run "ampoule-first-$$")
    grep -q 'hello' <<<"$out" || fail "runc: expected a greeting, got: $out"
    said "runc runs it: $out"
  else said "runc is not here: not tried"; fi
else said "umoci or root is not here: not tried"; fi
said "ok: $digest, the same for uid 54321 and $other"
