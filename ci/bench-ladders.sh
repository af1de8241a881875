# shellcheck shell=bash disable=SC2154
# Part of ci/bench: the same builds on every rung of the isolation ladder, and
# for another architecture by each way to run its programs.

install_packages proot uidmap

# --- who builds ---------------------------------------------------------------

# A user with subordinate ids, and one whom no file of the system knows.
account=fanfold-test
id "$account" >/dev/null 2>&1 || useradd --create-home --shell /bin/sh "$account"
declare -A prefix=(
  [root]=
  [plain]="setpriv --reuid $account --regid $account --init-groups"
  [unknown]='setpriv --reuid 20011 --regid 20012 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all'
)

# In a folder that all of them can reach.
binary=$work/fanfold
cp "$FANFOLD" "$binary"
for user in "${!prefix[@]}"; do
  mkdir -p "$work/$user"/{home,tmp,store,roots}
  # shellcheck disable=SC2086
  chown -R "$(${prefix[$user]} id -u):$(${prefix[$user]} id -g)" "$work/$user"
done

# as USER: what stands before a command, so that it runs as the user.
as() {
  printf '%s env -i PATH=%q HOME=%q TMPDIR=%q' "${prefix[$1]}" "$PATH" "$work/$1/home" "$work/$1/tmp"
}

# --- base images and scripts --------------------------------------------------

foreign=linux/arm64
[[ $native != linux/arm64 ]] || foreign=linux/amd64
case $foreign in
  */arm64) foreign_qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64) ;;
  *) foreign_qemu=$(command -v qemu-x86_64-static || command -v qemu-x86_64) ;;
esac

say 'the Debian base with a package archive'
packages=$("$repo/ci/packages")
push_debian_base
"$FANFOLD" build --root "$ROOT" --platform linux/amd64,linux/arm64 --timestamp 1700000000 --progress quiet --push \
  --build-arg "BASE=$REGISTRY/debian-base" --tag "$REGISTRY/debian-packages:latest" "$packages" >/dev/null

# The commands of a case, the same for fanfold and for proot. They are long enough
# that the start of a build does not hide what one command costs.
declare -A script=(
  [packages]='export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io openssh-client cron dbus'
  [create]='mkdir /made && cd /made
for d in $(seq 100); do
  mkdir $d && cd $d && seq 200 | split -l 1 -a 3 && cd ..
done
chown -R 1:1 /made/1* && chmod -R go-w /made && rm -r /made/9*'
  [walk]='for i in $(seq 20); do find / -xdev -ls; done >/dev/null'
  [archive]='for i in $(seq 5); do tar -c --one-file-system --exclude=./proc --exclude=./dev -C / . | tail -c 1; done >/dev/null'
  [forks]='cd /tmp
for i in $(seq 300); do
  sh -c "cat /etc/passwd /etc/group > $i.i && sed s/root/x/ $i.i > $i.s && mv $i.s $i.o && rm $i.i" || exit
done'
  [subshells]='for i in $(seq 2000); do ( : ) ; done'
  [execs]='for i in $(seq 1000); do /bin/true; done'
)
for name in "${!script[@]}"; do
  context "ladder-$name" <<<"FROM $REGISTRY/debian-packages
RUN <<'SCRIPT'
set -e
${script[$name]}
SCRIPT"
done
context ladder-steps <<<"FROM $REGISTRY/busybox
$(for i in {1..10}; do echo "RUN echo $i > /file$i"; done)"

declare -A ladder_title=(
  [steps]='10 RUN steps on busybox'
  [packages]='apt-get install of 3 packages and what they need'
  [create]='20,000 files made, chown, chmod, rm'
  [walk]='find / -ls, 20 times'
  [archive]='tar of the root, 5 times'
  [forks]='a shell that starts 4 programs, 300 times'
  [subshells]='2,000 subshells'
  [execs]='1,000 times /bin/true'
)

# --- one command per way and case ---------------------------------------------

# ladder_build USER FLAGS PLATFORM NAME: the build of a case, or its probe.
ladder_build() {
  printf '%s %q build --root %q --progress plain --no-cache --platform %s %s -t bench:latest %q' \
    "$(as "$1")" "$binary" "$work/$1/store" "$3" "$2" "$work/ladder-$4"
}

# proot_root USER PLATFORM: the command that gives the user a new root directory of
# the Debian base. Devices are the machine's, so tar needs no right to make them.
proot_root() {
  local tar=$work/root-${2#*/}.tar dir=$work/$1/roots/${2#*/}
  if [[ ! -e $tar ]]; then
    context root <<<"FROM $REGISTRY/debian-packages"
    "$FANFOLD" build --root "$ROOT" --progress quiet --platform "$2" --output "type=tar,dest=$tar" "$work/root" >/dev/null
    chmod 644 "$tar"
  fi
  cat >"$dir.sh" <<SCRIPT
rm -rf '$dir' && mkdir -p '$dir' && tar -x -p -f '$tar' -C '$dir' --anchored --exclude='dev/*' --exclude='./dev/*'
SCRIPT
  printf '%s sh %q' "$(as "$1")" "$dir.sh"
}

# proot_command USER PLATFORM NAME: the same script without a build around it.
proot_command() {
  local emulator=
  [[ $2 == "$native" ]] || emulator="-q $foreign_qemu"
  printf '%s PROOT_TMP_DIR=%q PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root' \
    "$(as "$1")" "$work/$1/tmp"
  printf ' /usr/bin/proot -0 %s -r %q -b /dev -b /proc -w / /bin/sh -ec %q' \
    "$emulator" "$work/$1/roots/${2#*/}" "${script[$3]}"
}

# --- measuring ----------------------------------------------------------------

# timed OUT COMMAND [PREPARE]: the median of the elapsed seconds, the seconds of
# processors (hyperfine keeps their mean alone) and the worst exit code. With
# PREPARE, which makes what the command changes anew, a failure is timed, too;
# without, it gives "- - 1".
timed() {
  local out=$1 options=()
  (($# < 3)) || options=(--ignore-failure --prepare "$3")
  if hyperfine --shell bash --runs "$runs" --warmup "$warmup" --export-json "$out.json" --show-output \
    "${options[@]}" "$2" >"$out.log" 2>&1; then
    jq -r '.results[0] | "\(.median) \(.user + .system) \(.exit_codes | max)"' "$out.json"
  else
    echo '- - 1'
  fi
}

# ladder TABLE PLATFORM CASE... -- WAY...: one table, a row for each way, a column
# for each case. A way is "NAME|USER|FLAGS"; the flag `proot` stands for the peer.
# Ratios are to the first way.
ladder() {
  local table=$1 platform=$2 names=() ways=() row way title user flags name out problem
  local -A first_wall first_cpu
  shift 2
  while [[ $1 != -- ]]; do names+=("$1") && shift; done
  ways=("${@:2}")
  local head="| $table |" line='|---|'
  for name in "${names[@]}"; do
    head+=" ${ladder_title[$name]} |" line+='---|'
  done
  local rows=("$head" "$line") command prepare wall cpu code note way_number=0
  for way in "${ways[@]}"; do
    IFS='|' read -r title user flags <<<"$way"
    row="| $title |" problem= way_number=$((way_number + 1))
    if [[ $flags != proot ]]; then
      out=$work/way-$way_number
      if ! bash -c "$(ladder_build "$user" "$flags" "$platform" probe)" >"$out.log" 2>&1; then
        problem=$(grep -m 1 '^error' "$out.log" || tail -n 1 "$out.log")
      fi
    fi
    for name in "${names[@]}"; do
      if [[ -n $problem ]]; then
        row+=' not available here |'
        continue
      fi
      out=$work/way-$way_number-$name
      say "$title: ${ladder_title[$name]}"
      if [[ $flags != proot ]]; then
        read -r wall cpu code < <(timed "$out" "$(ladder_build "$user" "$flags" "$platform" "$name")")
      elif [[ -n ${script[$name]:-} ]]; then
        command=$(proot_command "$user" "$platform" "$name")
        prepare=$(proot_root "$user" "$platform")
        read -r wall cpu code < <(timed "$out" "$command" "$prepare")
      else
        row+=' - |'
        continue
      fi
      if [[ $wall == - ]]; then
        say "it fails: $(tail -n 3 "$out.log")"
        row+=' fails |'
        continue
      fi
      note=
      ((code == 0)) || note=", exit $code"
      : "${first_wall[$name]:=$wall}" "${first_cpu[$name]:=$cpu}"
      note="$(number "$wall"), $(ratio "$wall" "${first_wall[$name]}") ($(ratio "$cpu" "${first_cpu[$name]}"))$note"
      # A table that is cut short has said something, too.
      say "  $note"
      row+=" $note |"
    done
    [[ -z $problem ]] || say "$title is not available here: $problem"
    rows+=("$row")
  done
  printf '\n'
  printf '%s\n' "${rows[@]}"
  printf '\nMedians; the ratio to the first row; in parentheses, that of the processor time.\n'
}

# Shows whether a way works here, and fetches the base images.
context ladder-probe <<<"FROM $REGISTRY/busybox AS other
RUN echo probe > /probe
FROM $REGISTRY/debian-packages
COPY --from=other /probe /probe
RUN cat /probe"

if ((${#rungs[@]})); then
  ladder 'rung' "$native" "${rungs[@]}" -- \
    'userns, root|root|--isolation userns' \
    'userns, subordinate ids|plain|--isolation userns' \
    'one-id, no subordinate ids|unknown|--isolation one-id' \
    'chroot, root|root|--isolation chroot' \
    'ptrace, no capability|unknown|--isolation ptrace' \
    'proot -0, no capability, no image|unknown|proot'
fi
if ((${#emulation[@]})); then
  ladder "$foreign by" "$foreign" "${emulation[@]}" -- \
    'private-binfmt, root|root|--emulation private-binfmt' \
    'exec, root|root|--emulation exec' \
    'exec, one-id|unknown|--isolation one-id --emulation exec' \
    'exec, ptrace|unknown|--isolation ptrace --emulation exec' \
    'proot -0 -q, no capability, no image|unknown|proot'
fi
