# shellcheck shell=bash disable=SC2034,SC2154
# Part of ci/bench: measuring commands and keeping the figures.
#
# A row is one thing that is measured, by its short name; a tool is `fanfold`, a
# peer, or `alone`: the same work without building an image.

# Figures by "row tool": the median, least and most elapsed seconds, the processor
# seconds, the peak in KiB, the number of runs.
declare -A wall least_wall most_wall cpu peak counted
# Titles by row, and the row names in their order.
declare -A title
rows=()
# What the targets say: "title|measured|target|verdict" each.
claims=()
# Remarks for below the tables.
notes=()
# The largest time by row that its target allows, for the chart.
declare -A mark

# row NAME TITLE: begins a row.
row() {
  rows+=("$1")
  title[$1]=$2
  say "$2"
}

# note TEXT: a remark, once.
note() {
  local known
  for known in "${notes[@]}"; do
    [[ $known != "$1" ]] || return 0
  done
  notes+=("$1")
  say "  $1"
}

# lacking ROW TOOL REASON: a figure that cannot be had.
lacking() {
  wall[$1 $2]=-
  note "$2, ${title[$1]}: $3"
}

# calculate EXPRESSION A [B [C]]: what awk makes of it, with the letters a, b, c; "-" if
# one of the numbers is not known.
calculate() {
  if [[ " ${*:2} " == *' - '* ]]; then echo -; return; fi
  awk -v a="${2:-0}" -v b="${3:-0}" -v c="${4:-0}" "BEGIN { printf \"%.6f\", $1 }"
}

# holds EXPRESSION: whether awk finds it true.
holds() { awk "BEGIN { exit !($1) }"; }

# --- running ------------------------------------------------------------------

# why LOG: the line of a log that says most about a failure.
why() {
  local line
  # Errors that come in a list begin with their number alone.
  line=$({ grep -v 'errors\? occurred:$' "$1" | grep -m 1 -i '^error\|error[: ]\|cannot\|failed'; } || tail -n 1 "$1") || true
  line=${line#"${line%%[![:space:]]*}"}
  line=${line//$work/WORK}
  line=${line//"$REGISTRY"/REGISTRY}
  printf '%s\n' "${line:0:300}"
}

# sample LOG TOOL PREPARE COMMAND: one run. Sets sample_wall, sample_cpu (seconds, the
# engine's with it), sample_engine (its alone) and sample_peak (KiB: the largest
# resident set of any single process, those of the engine with it).
sample() {
  local log=$1 tool=$2 before engine
  bash -c "$3" >"$log" 2>&1 || return
  sample_engine=0
  [[ $tool != BuildKit ]] || before=$(engine_begin)
  command time -q -f '%e %U %S %M' -o "$log.time" bash -c "$4" >>"$log" 2>&1 || return
  read -r sample_wall sample_user sample_system sample_peak < <(tail -n 1 "$log.time")
  sample_cpu=$(calculate "a + b" "$sample_user" "$sample_system")
  if [[ $tool == BuildKit ]]; then
    read -r engine engine_peak < <(engine_end)
    sample_engine=$(calculate "a - b" "$engine" "$before")
    sample_cpu=$(calculate "a + b" "$sample_cpu" "$sample_engine")
    ((engine_peak <= sample_peak)) || sample_peak=$engine_peak
  fi
}

# measure ROW TOOL PREPARE COMMAND: measures a command; PREPARE runs before each of its
# runs and is not measured; it may be empty. A failing command gives "-" and a note.
measure() {
  local key="$1 $2" tool=$2 prepare=${3:-true} command=$4 out number options=()
  out=$work/log-$1-${tool// /-}
  wall[$key]=-
  if ! sample "$out" "$tool" "$prepare" "$command"; then
    lacking "$1" "$tool" "$(why "$out")"
    return 0
  fi
  if holds "$sample_wall >= $once"; then
    wall[$key]=$sample_wall least_wall[$key]=$sample_wall most_wall[$key]=$sample_wall cpu[$key]=$sample_cpu
    peak[$key]=$sample_peak counted[$key]=1
  else
    # The first run fetches what all later ones have: neither its time nor its peak is theirs.
    sample "$out" "$tool" "$prepare" "$command" || true
    # Without a shell between where there is nothing for a shell to do.
    [[ $command =~ [\&\|\;\<\>\$] ]] || options=(-N)
    number=$(awk -v budget="$budget" -v wall="$sample_wall" -v least="$least" -v most="$most" 'BEGIN {
      number = int(budget / (wall + 0.001)); if (number < least) number = least; if (number > most) number = most; print number }')
    # Three runs of what takes seconds are as good as five.
    ! holds "$sample_wall > $budget / 2 && $number > 3" || number=3
    # Without a shell, hyperfine has none for this either.
    printf '%s\n' "$prepare" >"$out.prepare"
    if ! hyperfine --style none "${options[@]}" --runs "$number" --prepare "bash $out.prepare" \
      --export-json "$out.json" "$command" >>"$out" 2>&1; then
      lacking "$1" "$tool" "$(why "$out")"
      return 0
    fi
    IFS=' ' read -r wall["$key"] least_wall["$key"] most_wall["$key"] cpu["$key"] counted["$key"] < <(
      jq -r --argjson engine "$sample_engine" \
        '.results[0] | "\(.median) \(.min) \(.max) \(.user + .system + $engine) \(.times | length)"' "$out.json")
    peak[$key]=$sample_peak
  fi
  forget_blobs
  say "  $tool: $(number "${wall[$key]}")"
}

# From here on, large blobs in the registry are those of measured builds.
bases_done() { : >"$work/bases-done"; }

# Removes what was pushed, so that it is pushed again, and the disk is not filled.
forget_blobs() {
  [[ ! -e $work/bases-done ]] ||
    find "$work/registry/data" -name data -size +1024k -newer "$work/bases-done" -delete
}

# count_layer_downloads COMMAND: runs it and prints how many layers were fetched from
# the registry: blobs that were sent and are not JSON.
count_layer_downloads() {
  local before digest file layers=0
  before=$(wc -l <"$work/registry/log")
  bash -c "$1" >"$work/downloads.log" 2>&1 || { echo -; return; }
  # A line is written after the answer.
  sleep 0.2
  while read -r digest; do
    file=$work/registry/data/docker/registry/v2/blobs/sha256/${digest:0:2}/$digest/data
    [[ -e $file && $(head -c 1 "$file") == '{' ]] || layers=$((layers + 1))
  done < <(tail -n +$((before + 1)) "$work/registry/log" |
    sed -n 's|.*"GET [^ ]*/blobs/sha256:\([0-9a-f]*\)[^ ]* HTTP[^"]*" 20[06].*|\1|p')
  echo "$layers"
}

# --- targets ------------------------------------------------------------------

# claim TITLE MEASURED TARGET TRUE: a line of the first table. TRUE is an expression.
claim() {
  local verdict=-
  if [[ $2 != - ]]; then
    if holds "$4"; then verdict=met; else verdict=missed; fi
  fi
  claims+=("$1|$2|$3|$verdict")
}

# claim_seconds ROW SECONDS: fanfold takes less.
claim_seconds() {
  local measured=${wall[$1 fanfold]:--}
  mark[$1]=$2
  claim "${title[$1]}" "$(number "$measured")" "under $(number "$2")" "$measured < $2"
}

# claim_ratio ROW SECONDS OTHER TEXT LIMIT: fanfold's time in ROW is at most LIMIT
# times SECONDS, the time of OTHER. TEXT stands behind the title.
claim_ratio() {
  local measured=${wall[$1 fanfold]:--} ratio
  ratio=$(ratio "$measured" "$2")
  if [[ $ratio == - ]]; then
    claim "${title[$1]}$4" - "at most $5 of $3" 0
    return 0
  fi
  [[ -n ${mark[$1]:-} ]] || mark[$1]=$(calculate "a * b" "$2" "$5")
  claim "${title[$1]}$4" "$ratio of $3" "at most $5" "$measured <= $2 * $5"
}

# --- numbers ------------------------------------------------------------------

# number SECONDS: for people.
number() {
  if [[ $1 == - ]]; then echo -; return; fi
  awk -v n="$1" 'BEGIN {
    if (n < 0.01) printf "%.1f ms", n * 1000
    else if (n < 1) printf "%.0f ms", n * 1000
    else printf "%.2f s", n }'
}

# ratio A B: A by B.
ratio() {
  if [[ $1 == - || $2 == - ]]; then echo -; return; fi
  awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a / b }'
}
