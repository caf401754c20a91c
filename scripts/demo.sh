#!/bin/bash
# demo.sh: load a real image, change a container, look at it, commit, save, and have another program read the result.
# Everything lies in a temporary directory and is gone at the end, whatever happens. Needs root; `make demo` builds the
# binary and the image first.
#
#   DRIVER   btrfs or devicemapper. Default: what `blockstore init` chooses on this machine.
#            devicemapper on a kernel without it runs inside User Mode Linux.
#   SCRATCH  where the temporary directory is made (about 3 GB are used; default: $BSTEST_DIR, else $TMPDIR, else /var/tmp)
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
bin=$here/bin/blockstore
driver=${DRIVER:-auto}
image=real/postgres:latest

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
told() { echo "\$ ${*/#$bin/blockstore}"; } # told COMMAND...: print it as a person would type it
show() { # show COMMAND...: print it and run it
	told "$@"
	"$@"
}
die() { echo "demo: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || die "must be root: sudo make demo"
[ -x "$bin" ] || die "bin/blockstore is missing: make build"
real=${REALIMAGE:-$(vagrant/realimage/make)}
[ -e "$real/postgres.docker.tar" ] || die "no image in $real: make realimage"

if [ "$driver" = devicemapper ] && ! grep -q ' device-mapper$' /proc/misc && [ -z "${BLOCKSTORE_MACHINE:-}" ]; then
	say "This kernel has no device-mapper: going on inside User Mode Linux"
	exec vagrant/uml/run --timeout 30m -e DRIVER=devicemapper -e REALIMAGE="$real" -- "$here/scripts/demo.sh"
fi

work=$(mktemp -d "${SCRATCH:-${BSTEST_DIR:-${TMPDIR:-/var/tmp}}}/bstest-demo-XXXXXX")
root=$work/store
bs() { "$bin" --root "$root" "$@"; }
b() { show "$bin" --root "$root" "$@"; }
clean_up() {
	status=$?
	trap - EXIT
	if [ -e "$root/catalog.db" ]; then
		bs ps -q | xargs -r "$bin" --root "$root" rm -f >/dev/null || true
		bs destroy --yes >/dev/null || echo "demo: the store at $root could not be destroyed" >&2
	fi
	mountpoint -q "$work" || rm -rf --one-file-system "$work"
	[ "$status" = 0 ] || echo "demo: failed" >&2
	exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say "A store. --driver $driver"
b init --driver "$driver" --loopback 8G
b info

say "A real image: Debian, python3 and postgresql, one layer each ($(du -h "$real/postgres.docker.tar" | cut -f1))"
time b load -i "$real/postgres.docker.tar"
b images
b history "$image"

say "Two containers of it cost next to nothing"
time b create --name db "$image"
time b create --name other "$image"
b ps -s

say "Four bytes inside a large file of a lower layer, one package's file appended to, a directory deleted"
dir=$(bs mount db)
big=$(find "$dir/usr" -xdev -type f -printf '%s %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)
echo "the largest file: ${big#"$dir"}, $(stat -c %s "$big") bytes"
bs --json pool status | jq .data.used >"$work/before"
show dd if=/dev/zero of="$big" bs=4 count=1 seek=1000 conv=notrunc,fsync status=none
sync -f "$big"
bs --json pool status | jq .data.used >"$work/after"
echo "the backing store's data grew by $(($(cat "$work/after") - $(cat "$work/before"))) bytes"
echo "shared_buffers = 1GB" >>"$dir/usr/share/postgresql/15/postgresql.conf.sample" 2>/dev/null ||
	echo "a line" >>"$dir/etc/debian_version"
show rm -r "$dir/usr/share/doc"
b umount db

say "What changed"
bs diff db >"$work/diff"
head -n 20 "$work/diff"
echo "($(wc -l <"$work/diff") lines)"

say "Who holds what"
b du
b images --tree

say "Commit: the change becomes a layer"
b commit -m "the demo's change" db demo/postgres:changed
b images --tree

say "Save, and let skopeo read what was written"
time b save -o "$work/changed.tar" demo/postgres:changed
told skopeo inspect --config "docker-archive:$work/changed.tar"
skopeo inspect --config "docker-archive:$work/changed.tar" | jq -c '{architecture, os, config, rootfs}'
show skopeo copy --quiet --insecure-policy "docker-archive:$work/changed.tar" "oci:$work/oci:changed"
want=$(bs inspect demo/postgres:changed | jq -r '.[0].image.config.rootfs.diff_ids[]')
got=$(skopeo inspect --config "oci:$work/oci:changed" | jq -r '.rootfs.diff_ids[]')
[ "$want" = "$got" ] || die "skopeo read other layers than were saved"
echo "skopeo compared every layer with its digest: $(echo "$got" | wc -l) layers, all as saved"

say "Everything in order?"
b check
b rm db other
b destroy --yes
[ ! -e "$root" ] || die "$root is still there"
say "Done: the store is gone again"
