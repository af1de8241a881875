# shellcheck shell=bash disable=SC2034
# Shell code that the scripts of this folder share. Source it after
# `set -euo pipefail`; it starts nothing by itself.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fixtures=${FANFOLD_FIXTURES:-$repo/target/fixtures}
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# say TEXT: one line about what happens now.
say() { printf '==> %s\n' "$*" >&2; }

# die TEXT: ends the script with a reason.
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# Work to do when the script ends, also after a failure. Last in, first out.
cleanup_commands=()
run_cleanup() {
  local status=$? i
  for ((i = ${#cleanup_commands[@]} - 1; i >= 0; i--)); do
    eval "${cleanup_commands[i]}" || true
  done
  exit "$status"
}
at_exit() {
  trap run_cleanup EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  cleanup_commands+=("$1")
}

# install_packages NAME...: Debian packages; those that are there are skipped.
# Without root, says what is missing and goes on: what needs them will tell.
install_packages() {
  local name missing=()
  for name in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    say "not root, so not installed: ${missing[*]}"
    return 0
  fi
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # The daemons of some packages are not ours to start: a Docker Engine would
  # also change the firewall of this machine. Tests start what they need.
  local policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    at_exit "rm -f '$policy'"
  else
    policy=
  fi
  apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null; } ||
    die "apt-get could not install ${missing[*]}"
  [[ -z $policy ]] || rm -f "$policy"
  # Nor are they to be started with the machine.
  local package
  for package in docker-registry docker.io; do
    [[ " ${missing[*]} " == *" $package "* ]] || continue
    command -v systemctl >/dev/null || continue
    case $package in
      docker.io) systemctl disable docker.service docker.socket ;;
      *) systemctl disable "$package" ;;
    esac >/dev/null 2>&1 || true
  done
}

# qemu_package: the package that holds static user-mode emulators here.
qemu_package() {
  if apt-cache show --no-all-versions qemu-user-static 2>/dev/null | grep -q '^Description.*transitional'; then
    printf 'qemu-user\n'
  else
    printf 'qemu-user-static\n'
  fi
}

# ensure_cargo: a Rust toolchain that can build this workspace, on PATH.
ensure_cargo() {
  export PATH="$PATH:$HOME/.cargo/bin"
  install_packages gcc libc6-dev make
  command -v cargo >/dev/null && return 0
  if ((EUID == 0)) && apt-cache show rustup >/dev/null 2>&1; then
    install_packages rustup
    rustup default stable >/dev/null
  else
    install_packages curl ca-certificates
    say 'installing a Rust toolchain with rustup'
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
      sh -s -- -q -y --profile minimal --no-modify-path >/dev/null
  fi
  command -v cargo >/dev/null || die 'no cargo: install Rust from https://rustup.rs'
}

# build_fanfold: builds the release binary and sets FANFOLD to its path.
build_fanfold() {
  if [[ -n ${FANFOLD:-} ]]; then
    [[ -x $FANFOLD ]] || die "FANFOLD=$FANFOLD is no program"
    return 0
  fi
  ensure_cargo
  say 'building fanfold'
  (cd "$repo" && cargo build --release --locked --quiet)
  FANFOLD=${CARGO_TARGET_DIR:-$repo/target}/release/fanfold
}

# free_port: a TCP port of the loopback interface that nobody listens on.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    # A connection that is refused means that nobody is there.
    (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  printf '%s\n' "$port"
}

# start_registry DIR [true]: docker-registry on a free port, data below DIR. Sets
# REGISTRY to host:port. With `true`, every request is a line of DIR/log. Stopped
# when the script ends.
start_registry() {
  local dir=$1 silent=true port attempt i
  [[ ${2:-} != true ]] || silent=false
  command -v docker-registry >/dev/null || die 'no docker-registry: apt-get install docker-registry'
  mkdir -p "$dir/data"
  for attempt in 1 2 3; do
    port=$(free_port)
    cat >"$dir/config.yml" <<YML
version: 0.1
log: {level: error, accesslog: {disabled: $silent}}
storage:
  filesystem: {rootdirectory: $dir/data}
  delete: {enabled: true}
http: {addr: "127.0.0.1:$port"}
YML
    docker-registry serve "$dir/config.yml" >"$dir/log" 2>&1 &
    local pid=$!
    for ((i = 0; i < 100; i++)); do
      if (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null && kill -0 "$pid" 2>/dev/null; then
        at_exit "kill $pid"
        REGISTRY=localhost:$port
        return 0
      fi
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill "$pid" 2>/dev/null || true
  done
  cat "$dir/log" >&2
  die "docker-registry did not start ($attempt attempts)"
}

# debian_mirror: the archive that this machine's own apt uses.
debian_mirror() {
  local uri
  if [[ -n ${FANFOLD_DEBIAN_MIRROR:-} ]]; then
    printf '%s\n' "${FANFOLD_DEBIAN_MIRROR%/}"
    return 0
  fi
  # apt fills the format in, not the shell.
  # shellcheck disable=SC1091,SC2016
  uri=$(
    . /etc/os-release
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' |
      awk -v suite="${VERSION_CODENAME:-}" '$2 == suite && $3 == "main" { print $1; exit }'
  )
  [[ -n $uri ]] || die 'no Debian archive in the apt sources of this machine: set FANFOLD_DEBIAN_MIRROR'
  printf '%s\n' "${uri%/}"
}

# apt_acquire_options: the machine's proxies, time-outs and the like, in the
# syntax of apt.conf; without the hooks and the index targets.
apt_acquire_options() {
  apt-config dump --no-empty |
    grep -E '^Acquire::' |
    grep -vE '^Acquire::(IndexTargets|cdrom|CompressionTypes|Changelogs)' || true
}

# apt_state DIR SUITE ARCHITECTURE: an apt of its own for any suite and
# architecture. The machine's own lists, cache and hooks are not touched. Sets
# APT_STATE_CONFIG, to be given to apt-get as APT_CONFIG.
apt_state() {
  local dir=$1 suite=$2 arch=$3 keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  mkdir -p "$dir"/{lists/partial,cache/archives/partial,parts,log}
  : >"$dir/status"
  printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$(debian_mirror)" "$suite" >"$dir/sources.list"
  {
    apt_acquire_options
    cat <<CONF
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State "$dir";
Dir::State::lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::Cache "$dir/cache";
Dir::Log "$dir/log";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "$dir/parts";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "$dir/parts";
Dir::Etc::preferencesparts "$dir/parts";
Dir::Etc::trustedparts "$dir/parts";
CONF
  } >"$dir/apt.conf"
  APT_STATE_CONFIG=$dir/apt.conf
}

# elf_machine FILE: "class-data-machine" of an ELF file, as in 2-1-183.
elf_machine() {
  local bytes
  read -ra bytes < <(od -An -tu1 -N20 "$1" | tr '\n' ' ')
  [[ ${bytes[*]:0:4} == '127 69 76 70' ]] || return 1
  local class=${bytes[4]} data=${bytes[5]}
  if ((data == 1)); then
    printf '%s-%s-%s\n' "$class" "$data" "$((bytes[18] + 256 * bytes[19]))"
  else
    printf '%s-%s-%s\n' "$class" "$data" "$((bytes[19] + 256 * bytes[18]))"
  fi
}

# push_busybox NAME PLATFORMS: makes the busybox base image for the platforms
# with fanfold and pushes it as NAME. ROOT is the store to use.
push_busybox() {
  "$FANFOLD" build --root "$ROOT" --timestamp 1700000000 --progress plain \
    --platform "$2" --tag "$1" --push "$fixtures/busybox"
}
