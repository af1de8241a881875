# shellcheck shell=bash disable=SC2154
# Part of ci/bench: the report in Markdown, the figures as JSON, the chart as SVG.

tools=(fanfold buildah BuildKit alone)

# mebibytes KIB
mebibytes() {
  if [[ $1 == - ]]; then echo -; return; fi
  echo "$((($1 + 512) / 1024)) MiB"
}

# version PACKAGE: of Debian.
version() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || true; }

# measured_binary: what was measured.
measured_binary() {
  local commit
  if [[ -n $given ]]; then
    printf 'a binary that was given, SHA-256 %s…\n' "$(sha256sum "$FANFOLD" | cut -c1-12)"
    return
  fi
  commit=$(git -C "$repo" rev-parse --short HEAD 2>/dev/null || echo unknown)
  [[ -z $(git -C "$repo" status --porcelain -uno 2>/dev/null) ]] || commit+=' with changes'
  printf 'commit %s\n' "$commit"
}

print_report() {
  local kernel memory
  kernel=$(uname -sr)
  memory=$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)
  cat <<MARKDOWN
# Measurements of fanfold

| | |
|---|---|
| date | $started$($quick && echo ', --quick') |
| fanfold | $("$FANFOLD" --version | awk '{ print $2 }'), $(measured_binary) |
| machine | $(nproc) x $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $memory, $(uname -m), $kernel |
| files | $(findmnt -n -o FSTYPE -T "$work"), $work |
| load when it began | $busy |
| peers | buildah $(version buildah), docker.io $(version docker.io) |
| tools | hyperfine $(version hyperfine), docker-registry $(version docker-registry), zstd $(version zstd), libdeflate $(version libdeflate-tools), $(qemu_package) $(version "$(qemu_package)") |
MARKDOWN
  if awk -v load="$busy" -v cores="$(nproc)" 'BEGIN { exit !(load > cores / 2) }'; then
    printf '\n**The machine was busy when this began: the figures are rough.**\n'
  fi
  if ((${#rows[@]})); then print_tables; fi
  if [[ -s $work/ladders.md ]]; then
    printf '\n## Rungs and emulation\n'
    cat "$work/ladders.md"
  fi
  [[ -z $compare ]] || print_comparison
}

print_tables() {
  local line name tool text mark
  if ((${#claims[@]})); then
    printf '\n## Targets\n\n| case | measured | target | |\n|---|---|---|---|\n'
    for line in "${claims[@]}"; do
      IFS='|' read -r name text mark tool <<<"$line"
      [[ $tool != missed ]] || tool='**missed**'
      printf '| %s | %s | %s | %s |\n' "$name" "$text" "$mark" "$tool"
    done
  fi
  printf '\n## Time\n\nMedians. In parentheses, what fanfold needs of the time of that tool; *alone* is the same work without a build.\n\n'
  printf '| case | fanfold | buildah | BuildKit | alone |\n|---|---|---|---|---|\n'
  for name in "${rows[@]}"; do
    line="| ${title[$name]} |"
    for tool in "${tools[@]}"; do
      text=$(number "${wall[$name $tool]:--}")
      if [[ $text != - && ${counted[$name $tool]:-} == 1 ]]; then text+=', 1 run'; fi
      if [[ $tool != fanfold && $text != - && ${wall[$name fanfold]:--} != - ]]; then
        text+=" ($(ratio "${wall[$name fanfold]}" "${wall[$name $tool]}"))"
      fi
      line+=" $text |"
    done
    printf '%s\n' "$line"
  done
  cat <<'MARKDOWN'

## Processors and memory

Processor seconds of all processes, means; the largest resident set of any single process. The commands of the Dockerfile and their
emulators count too. BuildKit's figures include its engine (dockerd, containerd, runc), whose processor seconds are those of one run.
The registry counts nowhere.

| case | fanfold | buildah | BuildKit | alone |
|---|---|---|---|---|
MARKDOWN
  for name in "${rows[@]}"; do
    line="| ${title[$name]} |" text=
    for tool in "${tools[@]}"; do
      if [[ -n ${cpu[$name $tool]:-} ]]; then
        text=yes
        line+=" $(number "${cpu[$name $tool]}"), $(mebibytes "${peak[$name $tool]}") |"
      else
        line+=' - |'
      fi
    done
    [[ -z $text ]] || printf '%s\n' "$line"
  done
  if ((${#notes[@]})); then
    printf '\n## Notes\n\n'
    printf -- '- %s\n' "${notes[@]}"
  fi
}

# --- figures ------------------------------------------------------------------

write_results() {
  local name tool line key
  {
    for name in "${rows[@]}"; do
      for tool in "${tools[@]}"; do
        key="$name $tool"
        [[ ${wall[$key]:--} != - ]] || continue
        jq -nc --arg row "$name" --arg title "${title[$name]}" --arg tool "$tool" \
          --argjson median "${wall[$key]}" --argjson min "${least_wall[$key]:-null}" --argjson max "${most_wall[$key]:-null}" \
          --argjson runs "${counted[$key]:-null}" --argjson cpu "${cpu[$key]:-null}" --argjson peak "${peak[$key]:-null}" \
          '{results: {$row, $title, $tool, $median, $min, $max, $runs, cpu_seconds: $cpu, peak_kib: $peak}}'
      done
    done
    for line in "${claims[@]}"; do
      jq -nc --arg line "$line" '$line | split("|") | {targets: {title: .[0], measured: .[1], target: .[2], verdict: .[3]}}'
    done
    for line in "${notes[@]}"; do
      jq -nc --arg line "$line" '{notes: $line}'
    done
  } | jq -s --arg date "$started" --arg fanfold "$("$FANFOLD" --version), $(measured_binary)" --arg kernel "$(uname -sr)" \
    --argjson cores "$(nproc)" --arg files "$(findmnt -n -o FSTYPE -T "$work")" --argjson load "$busy" --argjson quick "$quick" \
    --arg buildah "$(version buildah)" --arg docker "$(version docker.io)" '{
      $date, $fanfold, $quick, machine: {$cores, $kernel, $files, $load}, peers: {$buildah, "docker.io": $docker},
      results: map(.results // empty), targets: map(.targets // empty), notes: map(.notes // empty)}'
}

# print_comparison: this run's medians and processor seconds as ratios to an earlier one's.
print_comparison() {
  write_results >"$work/results.json"
  printf '\n## Compared with an earlier run\n\n'
  jq -r '"That of \(.date), \(.fanfold), load \(.machine.load). Below 1 is faster now.\n"' "$compare/results.json"
  printf '| case | tool | earlier | now | ratio | ratio of processor seconds |\n|---|---|---|---|---|---|\n'
  jq -r --slurpfile earlier "$compare/results.json" '
    def two: . * 1000 | round / 1000;
    def time: if . < 1 then "\(. * 10000 | round / 10) ms" else "\(. * 100 | round / 100) s" end;
    ($earlier[0].results | map({key: "\(.row) \(.tool)", value: .}) | from_entries) as $before
    | .results[] | . as $now | $before["\(.row) \(.tool)"] // empty | select(.median > 0)
    | "| \($now.title) | \($now.tool) | \(.median | time) | \($now.median | time) | \($now.median / .median | two) | " +
      (if (.cpu_seconds // 0) > 0 and $now.cpu_seconds != null then "\($now.cpu_seconds / .cpu_seconds | two)" else "-" end) + " |"
  ' "$work/results.json"
}

# --- chart --------------------------------------------------------------------

# write_chart: horizontal bars on a logarithmic scale, the target of a row as a mark.
write_chart() {
  local name tool
  for name in "${rows[@]}"; do
    [[ ${wall[$name fanfold]:--} != - ]] || continue
    printf '%s\t%s' "${title[$name]}" "${mark[$name]:--}"
    for tool in "${tools[@]}"; do printf '\t%s' "${wall[$name $tool]:--}"; done
    printf '\n'
  done | awk -F '\t' -v date="$started" '
    function escaped(text) { gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); gsub(/>/, "\\&gt;", text); return text }
    function log10(n) { return log(n) / log(10) }
    function place(seconds) { return left + (log10(seconds) - low) * (right - left) / (high - low) }
    function time(n) { return n < 0.01 ? sprintf("%.1f ms", n * 1000) : n < 1 ? sprintf("%.0f ms", n * 1000) : sprintf("%.2g s", n) }
    {
      title[NR] = $1; mark[NR] = $2
      for (tool = 1; tool <= 4; tool++) {
        value[NR, tool] = $(tool + 2)
        if ($(tool + 2) != "-" && $(tool + 2) > 0) {
          if (least == 0 || $(tool + 2) < least) least = $(tool + 2)
          if ($(tool + 2) > most) most = $(tool + 2)
        }
      }
    }
    END {
      if (least == 0) { least = 0.01; most = 1 }
      low = log10(least); low = low < 0 && low != int(low) ? int(low) - 1 : int(low)
      high = log10(most); high = high > 0 && high != int(high) ? int(high) + 1 : int(high)
      if (high <= low) high = low + 1
      split("fanfold,buildah,BuildKit,alone", names, ",")
      left = 440; right = 940; bar = 11; gap = 2; pad = 12; top = 76
      body = ""; y = top
      for (row = 1; row <= NR; row++) {
        begin = y
        for (tool = 1; tool <= 4; tool++) {
          if (value[row, tool] == "-" || value[row, tool] + 0 <= 0) continue
          width = place(value[row, tool]) - left
          if (width < 1) width = 1
          # The figure stands behind the mark where both would be in the same place.
          behind = left + width
          if (tool == 1 && mark[row] != "-" && mark[row] > 0) {
            at = place(mark[row])
            if (at > behind - 2 && at < behind + 40) behind = at
          }
          body = body sprintf("<rect class=\"t%d\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n", tool, left, y, width, bar)
          body = body sprintf("<text class=\"value\" x=\"%.1f\" y=\"%d\">%s</text>\n", behind + 5, y + bar - 2, time(value[row, tool]))
          y += bar + gap
        }
        body = body sprintf("<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", left - 10, (begin + y) / 2 + 3, escaped(title[row]))
        if (mark[row] != "-" && mark[row] > 0) {
          at = place(mark[row])
          body = body sprintf("<path class=\"target\" d=\"M%.1f %d V%d\"/>\n", at, begin - 4, begin + bar + 4)
        }
        y += pad
      }
      height = y + 24
      printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1000 %d\" width=\"1000\" height=\"%d\" role=\"img\" aria-labelledby=\"title\">\n", height, height
      printf "<title id=\"title\">fanfold and its peers, medians of %s</title>\n", escaped(date)
      print "<style>"
      print "text { font: 12px system-ui, sans-serif; fill: #24292f } .head { font-size: 15px; font-weight: 600 }"
      print ".value { font-size: 10px; fill: #57606a } .paper { fill: #ffffff } .grid { stroke: #d0d7de; stroke-width: 1 }"
      print ".t1 { fill: #2a78d6 } .t2 { fill: #d9822b } .t3 { fill: #8a63c9 } .t4 { fill: #8c959f }"
      print ".target { stroke: #cf222e; stroke-width: 2.5; fill: none }"
      print "@media (prefers-color-scheme: dark) {"
      print "text { fill: #e6edf3 } .value { fill: #9da7b3 } .paper { fill: #0d1117 } .grid { stroke: #30363d }"
      print ".t1 { fill: #4c9aff } .t2 { fill: #e39a4c } .t3 { fill: #a989e0 } .t4 { fill: #6e7681 } .target { stroke: #ff6b60 }"
      print "}"
      print "</style>"
      printf "<rect class=\"paper\" width=\"1000\" height=\"%d\"/>\n", height
      print "<text class=\"head\" x=\"16\" y=\"26\">Time to build, logarithmic scale: shorter is better</text>"
      x = 16
      for (tool = 1; tool <= 4; tool++) {
        printf "<rect class=\"t%d\" x=\"%d\" y=\"38\" width=\"11\" height=\"11\"/><text x=\"%d\" y=\"48\">%s</text>\n", tool, x, x + 16, names[tool]
        x += 90
      }
      printf "<path class=\"target\" d=\"M%d 36 V52\"/><text x=\"%d\" y=\"48\">target of fanfold</text>\n", x + 5, x + 16
      for (decade = low; decade <= high; decade++) {
        at = left + (decade - low) * (right - left) / (high - low)
        printf "<path class=\"grid\" d=\"M%.1f %d V%d\"/>\n", at, top - 10, height - 22
        seconds = 10 ^ decade
        printf "<text class=\"value\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", at, height - 8, seconds < 0.9 ? sprintf("%g ms", seconds * 1000) : sprintf("%g s", seconds)
      }
      printf "%s", body
      print "</svg>"
    }'
}
