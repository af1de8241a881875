# shellcheck shell=bash disable=SC2154
# Part of ci/bench: the peers, and one command for each tool.

peers=(buildah BuildKit)

# optional PACKAGE...: installs what only a comparison needs.
optional() {
  local package
  for package in "$@"; do
    # In a shell of its own: what cannot be installed does not end the report.
    (cleanup_commands=() && install_packages "$package") || say "no $package"
  done
}

# --- buildah ------------------------------------------------------------------

install_packages buildah uidmap
optional docker.io zstd libdeflate-tools
export STORAGE_DRIVER=overlay BUILDAH_ISOLATION=chroot
peer_root=$work/peer
# Mounts of the peer may be left below its root.
at_exit "umount -l '$peer_root'/*/root/overlay 2>/dev/null"

# The peer emulates through the machine's binfmt_misc, which we do not touch:
# it gets a user namespace (identity map) with an instance of its own.
cat >"$work/peer-multi" <<SCRIPT
#!/bin/bash
set -euo pipefail
tag=$REGISTRY/peer-multi:latest
mkfifo "$work/go.\$\$"
unshare --user --mount bash -c '
  read -r _ <"$work/go.'\$\$'"
  mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
  cat "$work/register" >/proc/sys/fs/binfmt_misc/register
  buildah="buildah --root $peer_root/multi/root --runroot $peer_root/multi/run"
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

# --- BuildKit, in an engine of our own ----------------------------------------

# Absolute, since a machine may have another client in front of Debian's.
docker=/usr/bin/docker
engine=$work/engine engine_problem=

# Runs the engine apart until its standard input ends, then removes its cgroups.
# Neither a bridge nor the firewall is touched. The shell expands nothing here.
# shellcheck disable=SC2016
engine_script='
  unshare --mount --propagation private --pid --fork --kill-child --mount-proc -- sh -c '\''
    dockerd --config-file "$1/config.json" --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" \
      --host "unix://$1/sock" --bridge none --iptables=false --ip6tables=false \
      --cgroup-parent "/$2" --shutdown-timeout 1 >"$1/log" 2>&1 &
    engine=$!
    cat >/dev/null
    kill "$engine" 2>/dev/null
    wait "$engine" 2>/dev/null
  '\'' engine "$1" "$2"
  find /sys/fs/cgroup -depth -type d -path "*/$2*" -exec rmdir {} \; 2>/dev/null
  true'

# start_engine: sets engine_pid, or engine_problem.
start_engine() {
  local attempt
  if ! command -v dockerd >/dev/null || [[ ! -x $docker ]]; then
    engine_problem='there is no docker.io'
    return 0
  fi
  mkdir -p "$engine"
  echo '{}' >"$engine/config.json"
  export DOCKER_HOST=unix://$engine/sock DOCKER_CONFIG=$engine DOCKER_BUILDKIT=1
  # It ends with this script, however that ends.
  exec {engine_lifeline}> >(exec sh -c "$engine_script" engine "$engine" "fanfold-bench-$$" >/dev/null 2>&1)
  engine_pid=$!
  # The number of a descriptor is all that is expanded late.
  # shellcheck disable=SC2016
  at_exit 'exec {engine_lifeline}>&-; wait "$engine_pid"'
  for ((attempt = 0; attempt < 150; attempt++)); do
    ! "$docker" version >"$engine/version" 2>&1 || return 0
    kill -0 "$engine_pid" 2>/dev/null || break
    sleep 0.1
  done
  engine_problem="the engine does not start: $(tail -n 1 "$engine/log")"
}

# engine_processes: their numbers and the ticks of each, with those of its children
# that have ended.
engine_processes() {
  cat /proc/[0-9]*/stat 2>/dev/null | awk -v root="$engine_pid" '
    { pid = $1; sub(/^.*\) /, ""); parent[pid] = $2; ticks[pid] = $12 + $13 + $14 + $15 }
    END {
      for (pid in parent) {
        for (at = pid; at + 0 > 1 && at != root; at = parent[at]) {}
        if (at == root) print pid, ticks[pid]
      }
    }'
}

# engine_begin: the processor seconds of the engine so far; its peaks begin anew.
engine_begin() {
  local pid
  while read -r pid _; do
    { echo 5 >"/proc/$pid/clear_refs"; } 2>/dev/null || true
  done < <(engine_processes)
  engine_end | cut -d' ' -f1
}

# engine_end: its processor seconds so far, and the largest peak of a process, KiB.
engine_end() {
  local pid ticks sum=0 largest=0 own
  while read -r pid ticks; do
    sum=$((sum + ticks))
    own=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null) || true
    ((${own:-0} <= largest)) || largest=$own
  done < <(engine_processes)
  printf '%s %s\n' "$(calculate "a / b" "$sum" "$(getconf CLK_TCK)")" "$largest"
}

start_engine
[[ -z $engine_problem ]] || note "BuildKit: $engine_problem"

# --- one command for each tool ------------------------------------------------

# What empties a tool's cold store; the warm ones of the others stay.
empty_fanfold="rm -rf $work/cold"
empty_buildah="umount -l $peer_root/cold/root/overlay 2>/dev/null; rm -rf $peer_root/cold"
empty_BuildKit="$docker builder prune -af && $docker image prune -af"

# fanfold_build STORE ARGUMENT...
fanfold_build() {
  printf '%q build --root %q --progress quiet' "$FANFOLD" "$work/$1"
  printf ' %q' "${@:2}"
}

# fanfold_push STORE NAME CONTEXT ARGUMENT...: for this machine's platform, pushed.
fanfold_push() {
  fanfold_build "$1" --platform "$native" --push -t "$REGISTRY/fanfold-$2:latest" "${@:4}" "$work/$3"
}

# buildah_build STORE NAME CONTEXT ARGUMENT...: not pushed.
buildah_build() {
  printf 'buildah --root %q --runroot %q bud -q --layers --tls-verify=false' "$peer_root/$1/root" "$peer_root/$1/run"
  printf ' %q' -t "$REGISTRY/peer-$2:latest" "${@:4}" "$work/$3"
}

buildah_push() {
  buildah_build "$@"
  printf ' && buildah --root %q --runroot %q push -q --tls-verify=false %q' \
    "$peer_root/$1/root" "$peer_root/$1/run" "$REGISTRY/peer-$2:latest"
}

# buildah_platforms NAME CONTEXT PLATFORMS: all of them in one index, pushed.
buildah_platforms() {
  local tag=$REGISTRY/peer-$1:latest tool
  tool=$(printf 'buildah --root %q --runroot %q' "$peer_root/warm/root" "$peer_root/warm/run")
  printf '(%s manifest rm %s || true) >/dev/null 2>&1; %s bud -q --layers --no-cache --tls-verify=false --platform %s --manifest %s %q && ' \
    "$tool" "$tag" "$tool" "$3" "$tag" "$work/$2"
  printf '%s manifest push -q --all --tls-verify=false %s docker://%s' "$tool" "$tag" "$tag"
}

# BuildKit_build NAME CONTEXT ARGUMENT...: not pushed. Commands share the machine's
# network, as everywhere else; the engine has no bridge.
BuildKit_build() {
  printf '%q build -q --network host' "$docker"
  printf ' %q' -t "$REGISTRY/buildkit-$1:latest" "${@:3}" "$work/$2"
}

BuildKit_push() {
  BuildKit_build "$@"
  printf ' && %q push -q %q' "$docker" "$REGISTRY/buildkit-$1:latest"
}

# measure_buildkit ROW PREPARE COMMAND: as measure, where there is an engine.
measure_buildkit() {
  if [[ -n $engine_problem ]]; then
    wall[$1 BuildKit]=-
  else
    measure "$1" BuildKit "$2" "$3"
  fi
}

# measure_push ROW CONTEXT PREPARE ARGUMENT...: one platform, pushed, by each tool. The
# arguments are those that all of them have.
measure_push() {
  local name=$1 folder=$2 prepare=$3
  shift 3
  measure "$name" fanfold "$prepare" "$(fanfold_push root "$name" "$folder" "$@")"
  measure "$name" buildah "$prepare" "$(buildah_push warm "$name" "$folder" "$@")"
  measure_buildkit "$name" "$prepare" "$(BuildKit_push "$name" "$folder" "$@")"
}

# measure_cold ROW CONTEXT PREPARE: the same with an empty store.
measure_cold() {
  measure "$1" fanfold "$empty_fanfold; $3" "$(fanfold_push cold "$1" "$2")"
  measure "$1" buildah "$empty_buildah; $3" "$(buildah_push cold "$1" "$2")"
  measure_buildkit "$1" "$empty_BuildKit; $3" "$(BuildKit_push "$1" "$2")"
}
