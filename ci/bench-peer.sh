# shellcheck shell=bash disable=SC2154
# Part of ci/bench: fanfold beside Debian's buildah.

install_packages buildah uidmap
export STORAGE_DRIVER=overlay BUILDAH_ISOLATION=chroot
peer_root=$work/peer
peer=(buildah --root "$peer_root/root" --runroot "$peer_root/run")
# Mounts of the peer may be left below its root.
at_exit "umount -l '$peer_root/root/overlay' 2>/dev/null"

if [[ " ${cases[*]} " == *' debian '* ]]; then
  say 'the Debian base'
  "$FANFOLD" build --root "$ROOT" --platform "$native" --tag "$REGISTRY/debian:latest" --push \
    --progress plain "$fixtures/debian" >"$work/debian.log" 2>&1 || { tail -20 "$work/debian.log" >&2; die 'no Debian base'; }
fi

# --- contexts ---------------------------------------------------------------

five_steps='WORKDIR /app
COPY hello.txt .
RUN echo one > one && cat hello.txt one > two
RUN mkdir -p data && echo three > data/three
RUN rm one && uname -m > arch
CMD ["cat", "/app/arch"]'
context steps5 <<<"FROM $REGISTRY/busybox
$five_steps"
echo hello >"$work/steps5/hello.txt"
cp -r "$work/steps5" "$work/cached"
cp -r "$work/steps5" "$work/multi"

context run1 <<<"FROM $REGISTRY/busybox
RUN echo 1 > /file1"
context run10 <<<"FROM $REGISTRY/busybox
$(for i in {1..10}; do echo "RUN echo $i > /file$i"; done)"

context copy20k <<<"FROM $REGISTRY/busybox
COPY files /files"
for d in {1..100}; do
  mkdir -p "$work/copy20k/files/$d"
  for f in {1..200}; do echo "$d $f" >"$work/copy20k/files/$d/$f.txt"; done
done

context copy256m <<<"FROM $REGISTRY/busybox
COPY blob /blob"
# Half random, half text: neither free nor impossible to compress.
{
  head -c 128M /dev/urandom
  seq 1 30000000 | head -c 128M || true
} >"$work/copy256m/blob"

context debian <<<"FROM $REGISTRY/debian
RUN echo hello > /hello"

# 10 MB of small instructions: read alone, and checked as a whole.
{
  echo 'FROM scratch'
  seq -f 'LABEL key%.0f=value' 1 480000
} | context parse10m
cp -r "$work/parse10m" "$work/check10m"

# --- one command per case and tool --------------------------------------------

fanfold_command() {
  local name=$1 flags="--no-cache --push" platform=$native
  case $name in
    parse10m) printf '%q build --root %q --call targets %q' "$FANFOLD" "$ROOT" "$work/$name" && return ;;
    check10m) printf '%q check --root %q %q' "$FANFOLD" "$ROOT" "$work/$name" && return ;;
  esac
  [[ $name == cached ]] && flags=
  [[ $name == run* ]] && flags=--no-cache
  [[ $name == multi ]] && platform=linux/amd64,linux/arm64
  printf '%q build --root %q --progress quiet --platform %s %s -t %s/fanfold-%s:latest %q' \
    "$FANFOLD" "$ROOT" "$platform" "$flags" "$REGISTRY" "$name" "$work/$name"
}

peer_command() {
  local name=$1 tag=$REGISTRY/peer-$1:latest
  case $name in
    cached)
      printf '%s bud -q --layers --tls-verify=false -t %s %q' "${peer[*]}" "$tag" "$work/$name"
      ;;
    multi)
      printf '%q %q' "$work/peer-multi" "$work/$name"
      ;;
    run*)
      printf '%s bud -q --layers --no-cache --tls-verify=false -t %s %q' "${peer[*]}" "$tag" "$work/$name"
      ;;
    *)
      printf '%s bud -q --layers --no-cache --tls-verify=false -t %s %q && %s push -q --tls-verify=false %s' \
        "${peer[*]}" "$tag" "$work/$name" "${peer[*]}" "$tag"
      ;;
  esac
}

# The peer emulates through the machine's binfmt_misc, which we do not touch:
# it gets a user namespace (identity map) with an instance of its own.
cat >"$work/peer-multi" <<SCRIPT
#!/bin/bash
set -euo pipefail
export STORAGE_DRIVER=overlay
tag=$REGISTRY/peer-multi:latest
mkfifo "$work/go.\$\$"
unshare --user --mount bash -c '
  read -r _ <"$work/go.'\$\$'"
  mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
  cat "$work/register" >/proc/sys/fs/binfmt_misc/register
  buildah="buildah --root $peer_root/multi --runroot $peer_root/multirun"
  \$buildah manifest rm '"\$tag"' >/dev/null 2>&1 || true
  \$buildah bud -q --layers --no-cache --tls-verify=false --platform linux/amd64,linux/arm64 --manifest '"\$tag"' "\$1"
  \$buildah manifest push -q --all --tls-verify=false '"\$tag"' docker://'"\$tag"'
' peer "\$1" &
child=\$!
# A new user namespace is there once its link differs from ours.
until [[ \$(readlink /proc/\$child/ns/user) != "\$(readlink /proc/self/ns/user)" ]]; do sleep 0.001; done
echo '0 0 4294967295' >/proc/\$child/uid_map
echo '0 0 4294967295' >/proc/\$child/gid_map
echo go >"$work/go.\$\$"
rm -f "$work/go.\$\$"
wait \$child
SCRIPT
chmod +x "$work/peer-multi"
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64)
printf '%s' ":fanfold-bench-arm64:M:0:\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:$qemu:POCF" >"$work/register"

# --- the table ----------------------------------------------------------------

declare -A title=(
  [steps5]='5 steps on busybox, no cache, pushed'
  [cached]='5 steps on busybox, all cached'
  [multi]='5 steps, amd64 and emulated arm64, no cache, pushed'
  [run1]='1 RUN step, no cache'
  [run10]='10 RUN steps, no cache'
  [copy20k]='COPY of 20,000 files, no cache, pushed'
  [copy256m]='COPY of 256 MiB, no cache, pushed'
  [debian]='one-file RUN on Debian, no cache, pushed'
  [parse10m]='10 MB Dockerfile, read'
  [check10m]='10 MB Dockerfile, checked as a whole'
)

rows=()
declare -A seconds
for name in "${cases[@]}"; do
  say "${title[$name]}"
  ours=$(measure "$name" fanfold "$(fanfold_command "$name")")
  seconds[$name]=$ours
  memory=$(peak "$(fanfold_command "$name")")
  theirs=-
  [[ $name == *10m ]] || theirs=$(measure "$name" buildah "$(peer_command "$name")")
  rows+=("| ${title[$name]} | $(number "$ours") | $(number "$theirs") | $(ratio "$ours" "$theirs") | $memory MiB |")
done

echo "| case | fanfold, median | buildah $(buildah --version | awk '{ print $3 }'), median | ratio | fanfold, peak of one process |"
echo '|---|---|---|---|---|'
printf '%s\n' "${rows[@]}"

# What a RUN costs: nine more of them, and the command by itself.
if [[ -n ${seconds[run1]:-} && -n ${seconds[run10]:-} ]]; then
  hyperfine -N --style none --runs 50 --warmup 5 --export-json "$work/alone.json" \
    "$fixtures/busybox/bin/busybox-$(dpkg --print-architecture) sh -c true" >/dev/null 2>&1
  awk -v ten="${seconds[run10]}" -v one="${seconds[run1]}" -v alone="$(median "$work/alone.json")" 'BEGIN {
    step = (ten - one) / 9
    printf "\nA RUN step takes %.1f ms, its command alone %.1f ms: %.1f ms of overhead.\n",
      step * 1000, alone * 1000, (step - alone) * 1000 }'
fi
