# shellcheck shell=bash disable=SC2154
# Part of ci/bench: the cases. Each is a function that measures its rows and says
# what the targets want; docs/performance.md explains them.

# scatter FILE: a command that changes the first bytes of a file, so that a layer is
# a new one, is sent again, and is in no cache. What runs before have written is on
# disk then: it is not to be paid for by the next.
scatter() { printf 'head -c 16 /dev/urandom | dd of=%q conv=notrunc status=none; sync' "$1"; }

# blob FILE MIB: half random, half text, neither free nor impossible to compress.
blob() {
  local half=$(($2 / 2))
  { head -c "${half}M" /dev/urandom && { seq 1 50000000 | head -c "$(($2 - half))M" || true; }; } >"$1"
}

# --- five steps ---------------------------------------------------------------

five_steps() {
  context five <<DOCKERFILE
FROM $REGISTRY/busybox
WORKDIR /app
COPY hello.txt .
RUN echo one > one && cat hello.txt one > two
RUN mkdir -p data && echo three > data/three
RUN rm one && uname -m > arch
CMD ["cat", "/app/arch"]
DOCKERFILE
  echo hello >"$work/five/hello.txt"
}

case_steps5() {
  row steps5 '5 steps on busybox, no cache, pushed'
  measure_push steps5 five '' --no-cache
  claim_seconds steps5 0.08
  claim_ratio steps5 "${wall[steps5 BuildKit]:--}" BuildKit ', beside BuildKit' 0.3
}

case_cached() {
  local downloads=-
  row cached '5 steps, all cached in the store, pushed'
  measure_push cached five ''
  claim_seconds cached 0.02
  [[ ${wall[cached fanfold]} == - ]] || downloads=$(count_layer_downloads "$(fanfold_push root cached five)")
  claim "${title[cached]}: layers downloaded" "$downloads" 0 "$downloads == 0"
  row kept '5 steps, all cached in the store, no output'
  measure kept fanfold '' "$(fanfold_build root --platform "$native" "$work/five")"
  measure kept buildah '' "$(buildah_build warm kept five)"
  measure_buildkit kept '' "$(BuildKit_build kept five)"
}

case_remote() {
  local cache=type=registry,ref=$REGISTRY/cache:five downloads=- executed=- command
  row remote '5 steps, all in a remote cache, empty store, pushed'
  if ! supports --cache-from; then
    lacking remote fanfold 'this program has no --cache-from'
  else
    command=$(fanfold_push cold remote five --cache-from "$cache")
    once_before "$(fanfold_push seed remote five --no-cache --cache-to "$cache,mode=max")" remote fanfold &&
      measure remote fanfold "$empty_fanfold" "$command"
    if [[ ${wall[remote fanfold]} != - ]]; then
      bash -c "$empty_fanfold"
      downloads=$(count_layer_downloads "$command")
      bash -c "$empty_fanfold"
      executed=$(steps_done "${command/--progress quiet/--progress json}" 'test("^(RUN|COPY|WORKDIR) ")' '')
    fi
  fi
  claim_seconds remote 0.06
  claim "${title[remote]}: layers downloaded" "$downloads" 0 "$downloads == 0"
  claim "${title[remote]}: steps carried out" "$executed" 0 "$executed == 0"

  once_before "$(buildah_push seed remote five --no-cache --cache-to "$REGISTRY/peer-cache")" remote buildah &&
    measure remote buildah "$empty_buildah" "$(buildah_push cold remote five --cache-from "$REGISTRY/peer-cache")"
  if [[ -z $engine_problem ]]; then
    # What this BuildKit has of remote caches: records in the image itself.
    command=$(BuildKit_push remote five --build-arg BUILDKIT_INLINE_CACHE=1 --cache-from "$REGISTRY/buildkit-remote:latest")
    once_before "$command" remote BuildKit && measure_buildkit remote "$empty_BuildKit" "$command"
  fi
}

# supports FLAG: whether fanfold's build has it.
supports() { "$FANFOLD" build --help | grep -q -- "$1"; }

# once_before COMMAND ROW TOOL: carries out what a measurement stands on.
once_before() {
  bash -c "$1" >"$work/before.log" 2>&1 || { lacking "$2" "$3" "$(why "$work/before.log")" && return 1; }
}

# steps_done COMMAND TEST STAGE: how many steps of a stage (all, if it has no name)
# were carried out, of a build that prints JSON. TEST is a condition of jq on their text.
steps_done() {
  bash -c "$1" 2>"$work/steps.log" | jq -s --arg stage "$3" \
    "[.[] | select(.event == \"finished\" and (\$stage == \"\" or .stage == \$stage) and (.step | $2))] | length" || echo -
}

case_multi() {
  row multi '5 steps, amd64 and emulated arm64, no cache, pushed'
  measure multi fanfold '' \
    "$(fanfold_build root --platform linux/amd64,linux/arm64 --no-cache --push -t "$REGISTRY/fanfold-multi:latest" "$work/five")"
  measure multi buildah '' "$work/peer-multi $work/five"
  [[ -n $engine_problem ]] ||
    lacking multi BuildKit 'the BuildKit in docker.io builds one platform a call and makes no index'
  claim_seconds multi 0.16
}

# --- RUN ----------------------------------------------------------------------

case_run10() {
  local tool alone over
  context run1 <<<"FROM $REGISTRY/busybox
RUN echo 1 > /file1"
  context run10 <<<"FROM $REGISTRY/busybox
$(for i in {1..10}; do echo "RUN echo $i > /file$i"; done)"
  row run1 '1 RUN, no cache, no output'
  measure run1 fanfold '' "$(fanfold_build root --platform "$native" --no-cache "$work/run1")"
  measure run1 buildah '' "$(buildah_build warm run1 run1 --no-cache)"
  measure_buildkit run1 '' "$(BuildKit_build run1 run1 --no-cache)"
  row run10 '10 RUN, each writing a file, no cache, no output'
  measure run10 fanfold '' "$(fanfold_build root --platform "$native" --no-cache "$work/run10")"
  measure run10 buildah '' "$(buildah_build warm run10 run10 --no-cache)"
  measure_buildkit run10 '' "$(BuildKit_build run10 run10 --no-cache)"

  row run 'one RUN more, (10 RUN - 1 RUN) / 9'
  hyperfine -N --style none --runs 50 --warmup 5 --export-json "$work/alone.json" \
    "$fixtures/busybox/bin/busybox-$(dpkg --print-architecture) sh -c 'echo 1 > $work/file1'" >/dev/null 2>&1
  alone=$(jq -r '.results[0].median' "$work/alone.json")
  wall[run alone]=$alone
  for tool in fanfold "${peers[@]}"; do
    wall[run $tool]=$(calculate '(a - b) / 9' "${wall[run10 $tool]:--}" "${wall[run1 $tool]:--}")
  done
  over=$(calculate 'a - b' "${wall[run fanfold]}" "$alone")
  mark[run]=$(calculate 'a + 0.003' "$alone")
  claim 'a RUN, over its command alone' "$(number "$over")" "at most $(number 0.003)" "$over <= 0.003"
}

case_debian() {
  local tool
  push_debian_base
  context onefile <<<"FROM $REGISTRY/busybox
RUN echo hello > /hello"
  context debian <<<"FROM $REGISTRY/debian-base
RUN echo hello > /hello"
  row onefile 'one-file RUN on busybox, no cache, pushed'
  measure_push onefile onefile '' --no-cache
  row debian 'one-file RUN on Debian, no cache, pushed'
  measure_push debian debian '' --no-cache
  claim_ratio debian "${wall[onefile fanfold]}" 'that on busybox' ', beside busybox' 1.1
  for tool in "${peers[@]}"; do
    [[ ${wall[debian $tool]} == - ]] ||
      note "$tool needs $(ratio "${wall[debian $tool]}" "${wall[onefile $tool]}") times as long on Debian as on busybox."
  done
}

# --- contexts -----------------------------------------------------------------

case_copy20k() {
  local directory file
  context copy20k <<<"FROM $REGISTRY/busybox
COPY files /files"
  for directory in {1..100}; do
    mkdir -p "$work/copy20k/files/$directory"
    for file in {1..200}; do echo "$directory $file" >"$work/copy20k/files/$directory/$file.txt"; done
  done
  row copy20k 'COPY of 20,000 files, empty store, pushed'
  measure_cold copy20k copy20k "date +%N > $work/copy20k/files/1/1.txt"
  claim_seconds copy20k 1
  row copy20k-same 'COPY of 20,000 files, unchanged, pushed'
  measure_push copy20k-same copy20k ''
  claim_seconds copy20k-same 0.15
}

# alone ROW PREPARE COMMAND: the yardstick of a row.
alone() { measure "$1" alone "$2" "$3"; }

case_copy256m() {
  local format output pieces=$work/pieces
  context copy256m <<<"FROM $REGISTRY/busybox
COPY blob /blob"
  blob "$work/copy256m/blob" 256
  mkdir -p "$pieces"
  tar -C "$work/copy256m" -cf "$work/copy256m.tar" blob
  # One core each. The pieces are large, so that nothing is lost at their borders.
  split -n "$(nproc)" "$work/copy256m.tar" "$pieces/"
  cat >"$work/alone-gzip" <<SCRIPT
for piece in $pieces/*; do libdeflate-gzip -6 -c "\$piece" >/dev/null & done
wait
SCRIPT
  for format in gzip zstd; do
    row "copy256m-$format" "COPY of 256 MiB, $format, no cache, pushed"
    case $format in
      gzip) alone copy256m-gzip '' "sh $work/alone-gzip" ;;
      zstd) alone copy256m-zstd '' "zstd -3 -T0 -q -c $work/copy256m.tar -o /dev/null -f" ;;
    esac
    output=type=registry,compression=$format
    # What is meant without being said.
    [[ $format == zstd ]] || output=type=registry
    measure "copy256m-$format" fanfold "$(scatter "$work/copy256m/blob")" \
      "$(fanfold_build root --platform "$native" --no-cache -o "$output" -t "$REGISTRY/fanfold-256m:latest" "$work/copy256m")"
    if [[ $format == gzip ]]; then
      measure copy256m-gzip buildah "$(scatter "$work/copy256m/blob")" "$(buildah_push warm 256m copy256m --no-cache)"
      measure_buildkit copy256m-gzip "$(scatter "$work/copy256m/blob")" "$(BuildKit_push 256m copy256m --no-cache)"
    else
      measure copy256m-zstd buildah "$(scatter "$work/copy256m/blob")" \
        "$(buildah_push warm 256m copy256m --no-cache | sed 's/ push -q/ push -q --compression-format zstd/')"
      [[ -n $engine_problem ]] || lacking copy256m-zstd BuildKit 'the BuildKit in docker.io writes gzip alone'
    fi
    claim_ratio "copy256m-$format" "${wall[copy256m-$format alone]}" 'compressing alone' '' 1.1

    # The registry hashes and stores on the same processors: without it.
    row "kept256m-$format" "COPY of 256 MiB, $format, no cache, into an OCI layout"
    wall[kept256m-$format alone]=${wall[copy256m-$format alone]}
    output=type=oci,tar=false,dest=$work/layout,compression=$format
    [[ $format == zstd ]] || output=type=oci,tar=false,dest=$work/layout
    measure "kept256m-$format" fanfold "$(scatter "$work/copy256m/blob"); rm -rf $work/layout" \
      "$(fanfold_build root --platform "$native" --no-cache -o "$output" "$work/copy256m")"
    claim_ratio "kept256m-$format" "${wall[copy256m-$format alone]}" 'compressing alone' '' 1.1
  done
  rm -rf "$pieces" "$work/copy256m.tar" "$work/layout"
}

# --- platforms ----------------------------------------------------------------

case_platforms() {
  local prepare tag=$REGISTRY/fanfold-platforms:latest tool
  context platforms <<<"FROM $REGISTRY/busybox
COPY blob /blob"
  blob "$work/platforms/blob" 30
  prepare=$(scatter "$work/platforms/blob")
  row platforms1 'COPY of 30 MiB, 1 platform, no cache, pushed'
  measure_push platforms1 platforms "$prepare" --no-cache
  row platforms7 'COPY of 30 MiB, 7 platforms, no cache, pushed'
  measure platforms7 fanfold "$prepare" \
    "$(fanfold_build root --platform "$seven_platforms" --no-cache --push -t "$tag" "$work/platforms")"
  measure platforms7 buildah "$prepare" "$(buildah_platforms platforms platforms "$seven_platforms")"
  [[ -n $engine_problem ]] ||
    lacking platforms7 BuildKit 'the BuildKit in docker.io builds one platform a call and makes no index'
  claim_ratio platforms7 "${wall[platforms1 fanfold]}" 'that for one' ', beside 1 platform' 2
  tool=buildah
  [[ ${wall[platforms7 $tool]} == - ]] ||
    note "$tool needs $(ratio "${wall[platforms7 $tool]}" "${wall[platforms1 $tool]}") times as long for 7 platforms as for one."
}

case_stages() {
  local platforms=linux/amd64,linux/arm64,linux/arm/v7,linux/386 times
  # The words with a dollar are the Dockerfile's.
  context stages <<DOCKERFILE
FROM --platform=\$BUILDPLATFORM $REGISTRY/busybox AS shared
RUN echo shared > /shared
FROM --platform=\$BUILDPLATFORM $REGISTRY/busybox AS cross
COPY --from=shared /shared /shared
ARG TARGETARCH
RUN cat /shared > /out && echo "\$TARGETARCH" >> /out
FROM $REGISTRY/busybox
COPY --from=cross /out /out
DOCKERFILE
  row stages '3 stages, 4 platforms, a shared native stage, no cache, pushed'
  measure stages fanfold '' \
    "$(fanfold_build root --platform "$platforms" --no-cache --push -t "$REGISTRY/fanfold-stages:latest" "$work/stages")"
  measure stages buildah '' "$(buildah_platforms stages stages "$platforms")"
  [[ -n $engine_problem ]] ||
    lacking stages BuildKit 'the BuildKit in docker.io builds one platform a call and makes no index'
  times=$(steps_done "$(fanfold_build root --platform "$platforms" --no-cache "$work/stages" |
    sed 's/--progress quiet/--progress json/')" 'startswith("RUN ")' shared)
  claim 'the shared stage of 4 platforms: times its RUN was carried out' "$times" once "$times == 1"
}

# --- large layers -------------------------------------------------------------

case_layer400() {
  local memory
  context layer400 <<<"FROM $REGISTRY/busybox
COPY blob /one
RUN cp /one /two"
  blob "$work/layer400/blob" 400
  row layer400 'a layer of 400 MiB by COPY, one by RUN, no cache, pushed'
  measure_push layer400 layer400 "$(scatter "$work/layer400/blob")" --no-cache
  memory=$(calculate 'a / 1024' "${peak[layer400 fanfold]:--}")
  claim "${title[layer400]}: peak of one process" "$(mebibytes "${peak[layer400 fanfold]:--}")" 'under 100 MB' "$memory * 1.048576 < 100"
  rm -rf "$work/layer400"
}

# aside NAME: a command that empties a place without deleting anything: a file system
# may make new files more slowly for a while where many were deleted.
aside() { printf '[[ ! -e %q ]] || mv -T --backup=numbered %q %q' "$work/$1" "$work/$1" "$work/aside/$1"; }

case_pull200() {
  local size=0 tar
  mkdir "$work/aside"
  push_debian_base
  # Layers of a real system's files: a Debian, and what others are made of.
  mkdir -p "$work/big"
  cp "$fixtures"/debian/rootfs-{amd64,arm64}.tar "$work/big/"
  context big <<<"FROM scratch AS other
ADD rootfs-arm64.tar /
FROM scratch AS more
ADD rootfs-amd64.tar /
FROM $REGISTRY/debian-base
COPY --from=other /usr/lib /srv/usr/lib
COPY --from=other /usr/share /srv/usr/share
COPY --from=other /usr/bin /srv/usr/bin
COPY --from=other /var /srv/var
COPY --from=more /usr/lib /srv/more/lib"
  row pull200 'a Debian base of 200 MB, pulled and unpacked, RUN true, empty store'
  if ! once_before "$(fanfold_build seed --platform "$native" --push -t "$REGISTRY/big:latest" "$work/big")" pull200 fanfold; then
    return 0
  fi
  bases_done
  rm -rf "$work/big"
  skopeo --insecure-policy copy --quiet --src-tls-verify=false "docker://$REGISTRY/big:latest" "dir:$work/pulled"
  : >"$work/unpack"
  while read -r tar; do
    gzip -dc "$work/pulled/$tar" >"$work/pulled/$tar.tar"
    size=$((size + $(stat -c %s "$work/pulled/$tar.tar")))
    printf 'tar -C %q -xpf %q\n' "$work/unpacked" "$work/pulled/$tar.tar" >>"$work/unpack"
  done < <(jq -r '.layers[].digest | ltrimstr("sha256:")' "$work/pulled/manifest.json")
  note "The Debian base of $(awk -v n="$size" 'BEGIN { printf "%.0f", n / 1e6 }') MB has $(wc -l <"$work/unpack") layers; tar unpacks one after the other, decompressed."
  context pull200 <<<"FROM $REGISTRY/big
RUN true"
  alone pull200 "$(aside unpacked); mkdir $work/unpacked; sync" "sh -e $work/unpack"
  measure pull200 fanfold "$(aside cold); sync" "$(fanfold_build cold --platform "$native" "$work/pull200")"
  measure pull200 buildah "$empty_buildah; sync" "$(buildah_build cold pull200 pull200)"
  measure_buildkit pull200 "$empty_BuildKit; sync" "$(BuildKit_build pull200 pull200)"
  claim_ratio pull200 "${wall[pull200 alone]}" 'tar -x' '' 1.2
  rm -rf "$work/pulled" "$work/unpacked" "$work/aside"
}

# --- the Dockerfile itself ----------------------------------------------------

# 10 MB of small instructions: read alone, and checked as a whole.
large_dockerfile() {
  [[ -e $work/large ]] || { echo 'FROM scratch' && seq -f 'LABEL key%.0f=value' 1 480000; } | context large
}

case_parse10m() {
  large_dockerfile
  row parse10m '10 MB Dockerfile, read'
  measure parse10m fanfold '' "$(printf '%q build --root %q --call targets %q' "$FANFOLD" "$ROOT" "$work/large")"
}

case_check10m() {
  large_dockerfile
  row check10m '10 MB Dockerfile, checked as a whole'
  measure check10m fanfold '' "$(printf '%q check --root %q %q' "$FANFOLD" "$ROOT" "$work/large")"
}

# --- all that were chosen -----------------------------------------------------

five_steps
[[ " ${cases[*]} " != *' debian '* && " ${cases[*]} " != *' pull200 '* ]] || push_debian_base
bases_done
for name in "${cases[@]}"; do
  # What goes wrong in one case is said, and the others are measured.
  "case_$name" || note "the case $name ended early"
done
