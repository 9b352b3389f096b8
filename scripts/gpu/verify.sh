#!/usr/bin/env bash
# Runs everything natively and through a pool on the same GPU, and compares: examples byte by byte, errors line by
# line, PyTorch within tolerance; measures both. Needs bash, coreutils, awk, an NVIDIA driver and what
# `npm run gpu:prepare` has put into target/gpu-verify; neither Node nor a network.
set -uo pipefail

usage='usage: scripts/gpu/verify.sh [options]

--simulated      on the simulated GPU instead of a real one: whether everything runs (no PyTorch)
--only WORD,…    only checks whose names contain one of the words
--driver PATH    the libcuda.so.1 to use (default: where the loader finds it)
--results FILE   where the results are written (target/gpu-verify/results/DATE-gpu.md)
--seconds N      checks that would begin after so long are skipped (480)'

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
kit=${FARPOOL_GPU_KIT:-$root/target/gpu-verify}
transports=(unix tcp)

fail() { echo "verify.sh: $1" >&2; exit "${2:-69}"; }

# Runs the lines `NAME<tab>SECONDS<tab>COMMAND` of a file, each for SECONDS at most; what comes of it is in
# FOLDER/NAME.{stdout,stderr,status,ms}.
run_jobs() {
  local folder=$1 name limit line left started
  mkdir -p "$folder"
  while IFS=$'\t' read -r name limit line; do
    left=$((FARPOOL_VERIFY_DEADLINE - EPOCHSECONDS))
    if ((left < 3)); then echo late >"$folder/$name.status"; continue; fi
    started=${EPOCHREALTIME/./}
    timeout -k 3 "$((left < limit ? left : limit))" bash -c "$line" \
      >"$folder/$name.stdout" 2>"$folder/$name.stderr" </dev/null
    echo $? >"$folder/$name.status"
    echo $(((${EPOCHREALTIME/./} - started) / 1000)) >"$folder/$name.ms"
  done <"$2"
}

# This script inside the session of farpool-stand.
if [[ ${1:-} == --jobs ]]; then run_jobs "$2" "$3"; exit 0; fi

simulated=false only='' driver='' results='' seconds=480
while (($# > 0)); do
  case $1 in
    --simulated) simulated=true ;;
    --only | --driver | --results | --seconds)
      (($# > 1)) || fail "$1 needs a value" 64
      printf -v "${1#--}" %s "$2"
      shift
      ;;
    --help) echo "$usage"; exit 0 ;;
    *) echo "$usage" >&2; fail "unknown option '$1'" 64 ;;
  esac
  shift
done
export FARPOOL_VERIFY_DEADLINE=$((EPOCHSECONDS + seconds))
[[ -x $kit/bin/farpool-stand ]] || fail "there is nothing in $kit; 'npm run gpu:prepare' makes it, where Node is"
work=$(mktemp -d) || fail "no temporary folder"
: >"$work/inventory.log"
trap 'rm -rf "$work"' EXIT
# The stand's sockets and logs lie there too.
export TMPDIR=$work

# --- The driver -------------------------------------------------------------------------------------------------

inventory() { timeout -k 3 60 "$kit/bin/farpool-worker" inventory --driver "$1" 2>>"$work/inventory.log"; }
# A string or number of the inventory's line of JSON.
field() { grep -o "\"$1\":\(\"[^\"]*\"\|[a-z0-9]*\)" <<<"$gpus" | head -n 1 | cut -d: -f2- | tr -d '"'; }

found_by_loader=$(ldconfig -p 2>/dev/null | awk '$1 == "libcuda.so.1" && /x86-64/ { print $NF }')
if $simulated; then
  driver=$kit/lib/simgpu/libcuda.so.1
  export FARPOOL_SIMGPU_STATE=$work/simgpu FARPOOL_SIMGPU_MEMORY=512MiB FARPOOL_SIMGPU_DEVICES=2
  unset CUDA_VISIBLE_DEVICES
fi
if [[ -n $driver ]]; then
  gpus=$(inventory "$driver") || fail "$driver is no usable driver: $(tail -n 1 "$work/inventory.log")"
else
  # Never ours: the simulated GPU says so, and the shim has no session here.
  for driver in $found_by_loader \
    /usr/lib/x86_64-linux-gnu/libcuda.so.1 /usr/lib64/libcuda.so.1 /usr/local/nvidia/lib64/libcuda.so.1 \
    /usr/local/nvidia/lib/libcuda.so.1 /usr/lib/wsl/lib/libcuda.so.1 ''; do
    [[ -e $driver ]] && gpus=$(inventory "$driver") && [[ $(field simulated) == false ]] && break
  done
  [[ -n $driver ]] || fail "no NVIDIA driver with a GPU was found; hint: --driver PATH, or --simulated
$(tail -n 3 "$work/inventory.log")"
fi
gpu_name=$(field name) driver_version=$(field driverVersion) gpu_count=$(grep -o '"index":' <<<"$gpus" | wc -l)
session_gpus=$((gpu_count < 2 ? gpu_count : 2))
kernel_driver=$(sed -n 's/.*Kernel Module[^0-9]*\([0-9.]*\).*/\1/p' /proc/driver/nvidia/version 2>/dev/null | head -n 1)
# Natively a program sees the GPUs that the session has.
if ((session_gpus == 2)); then visible=0,1; else visible=0; fi
libraries=$kit/lib/cuda${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# A system folder in front could give PyTorch other libraries than its own, so only where the loader needs it.
beside_driver=$(dirname "$driver"):
[[ " "${found_by_loader//$'\n'/ }" " == *" $driver "* ]] && beside_driver=''
native_environment=(
  "LD_LIBRARY_PATH=$beside_driver$libraries"
  "CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-$visible}"
)
pooled_environment=("LD_LIBRARY_PATH=$libraries")

# --- What is checked --------------------------------------------------------------------------------------------

jobs=$work/jobs names=()
: >"$jobs"
# NAME SECONDS COMMAND
job() {
  local word words
  IFS=, read -ra words <<<"${only:-$1}"
  for word in "${words[@]}"; do
    [[ $1 == *"$word"* ]] || continue
    names+=("$1")
    printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$jobs"
    return
  done
}

for program in "$kit"/examples/*; do job "example-$(basename "$program")" 20 "'$program'"; done
parity=$kit/programs/error-parity
scenarios=$("$parity" --list) || fail "$parity --list failed"
for scenario in $scenarios; do job "errors-$scenario" 10 "'$parity' $scenario"; done
torch_missing=''
if $simulated; then
  torch_missing='the simulated GPU has no cuBLAS'
elif ! env "${native_environment[@]}" timeout 60 python3 -c 'import torch; assert torch.cuda.is_available()' \
  2>"$work/torch.log"; then
  torch_missing="python3 has no torch with CUDA: $(tail -n 1 "$work/torch.log")"
fi
[[ -n $torch_missing ]] || job pytorch 100 "python3 '$here/pytorch.py' run"
bench_words='--rounds 5'
if $simulated; then bench_words='--smoke --only launch,HtoD'; fi
job bench 45 "'$kit/bin/farpool-bench' $bench_words --raw \${FARPOOL_VERIFY_TRANSPORT:-unix}"
((${#names[@]} > 0)) || fail "--only $only names no check" 64

# --- Running ----------------------------------------------------------------------------------------------------

echo "GPU: $gpu_name; driver interface $driver_version, kernel module ${kernel_driver:-none}; $driver"
echo "natively: ${#names[@]} programs"
env "${native_environment[@]}" bash "$0" --jobs "$work/native" "$jobs"
for transport in "${transports[@]}"; do
  echo "through a pool over $transport"
  left=$((FARPOOL_VERIFY_DEADLINE - EPOCHSECONDS))
  env -u CUDA_VISIBLE_DEVICES "${pooled_environment[@]}" "FARPOOL_VERIFY_TRANSPORT=$transport" \
    timeout -k 5 "$((left > 5 ? left + 20 : 5))" "$kit/bin/farpool-stand" --driver "$driver" \
    --gpus "$session_gpus" --transport "$transport" --log "$work/$transport.log" \
    -- bash "$0" --jobs "$work/$transport" "$jobs" || echo "verify.sh: the session over $transport failed" >&2
done

# --- Comparing --------------------------------------------------------------------------------------------------

passed=0 failed=0 skipped=0 reasons=() rows=$work/rows details=$work/details
: >"$rows" >"$details"
of() { cat "$work/$1/$2" 2>/dev/null; } # WAY FILE
# One result: WAY NAME pass|fail|skip, and why.
verdict() {
  case $3 in
    pass) ((passed += 1)) ;;
    skip)
      ((skipped += 1))
      reasons+=("$2 ($1): $4")
      ;;
    fail)
      ((failed += 1))
      echo "FAILED $2 ($1): $4"
      { echo "### $2 ($1): $4"; echo '```'; head -c 3000 "${5:-/dev/null}"; echo '```'; } >>"$details"
      ;;
  esac
}

# What differs between two tables of error-parity, without the lines that are known to.
differing_errors() {
  awk -v scenario="${name#errors-}" -v known="$parity.known" -v simulated="$simulated" '
    function trim(text) { sub(/^ +/, "", text); sub(/ +$/, "", text); return text }
    BEGIN {
      # Lines `SCENARIO<tab>everywhere|simulated<tab>WHAT: CALL`.
      while ((getline entry < known) > 0) {
        split(entry, part, "\t")
        if (part[1] == scenario && (part[2] == "everywhere" || simulated == "true")) may[part[3]] = 1
      }
    }
    NR == FNR { native[FNR] = $0; count = FNR; next }
    $0 != native[FNR] && !((trim(substr($0, 1, 46)) ": " trim(substr($0, 48, 36))) in may) {
      print "native: " native[FNR]; print "pooled: " $0
    }
    END { if (FNR != count) print "native has " count " lines, pooled " FNR }
  ' "$1" "$2"
}

compare() { # NAME WAY; answers in `outcome` and `why`
  local name=$1 way=$2 status difference=$work/difference
  status=$(of "$way" "$name.status") outcome=fail why='' shown=$difference
  case $status in
    late) outcome=skip why="no time was left"; return ;;
    '') why="did not run"; return ;;
    124 | 137) why="did not end in time" shown=$work/$way/$name.stderr; return ;;
  esac
  if [[ $name == errors-* ]]; then
    differing_errors "$work/native/$name.stdout" "$work/$way/$name.stdout" >"$difference"
  elif [[ $name == pytorch ]]; then
    python3 "$here/pytorch.py" compare "$work/native/$name.stdout" "$work/$way/$name.stdout" >"$difference"
    cat "$work/$way/$name.stderr" >>"$difference.errors"
  elif [[ $name == bench ]]; then
    : >"$difference"
    [[ $status == 0 ]] || cp "$work/$way/$name.stderr" "$difference"
  else
    diff "$work/native/$name.stdout" "$work/$way/$name.stdout" >"$difference"
  fi
  if [[ $status != "$(of native "$name.status")" ]]; then
    why="status $status, natively $(of native "$name.status")"
    cat "$work/$way/$name.stderr" >>"$difference"
  elif [[ -s $difference ]]; then
    why="differs from native"
  else
    outcome=pass
  fi
}

for name in "${names[@]}"; do
  native_ms=$(of native "$name.ms") row="| $name |" times="${native_ms:-} |" ratios=''
  case $(of native "$name.status") in
    0) verdict native "$name" pass; native=pass ;;
    late) verdict native "$name" skip "no time was left"; native=skip ;;
    124 | 137) verdict native "$name" fail "did not end in time" "$work/native/$name.stdout"; native=fail ;;
    *) verdict native "$name" fail "status $(of native "$name.status")" "$work/native/$name.stdout"; native=fail ;;
  esac
  row+=" $native |"
  for way in "${transports[@]}"; do
    if [[ $native == pass ]]; then compare "$name" "$way"; else outcome=skip why="it has no native result"; fi
    verdict "$way" "$name" "$outcome" "$why" "${shown:-}"
    row+=" $outcome |"
    ms=$(of "$way" "$name.ms")
    times+=" ${ms:-} |"
    ratios+=" $(awk -v a="${ms:-0}" -v b="${native_ms:-0}" 'BEGIN { if (a > 0 && b > 0) printf "%.2f", a / b }') |"
  done
  echo "$row $times$ratios" >>"$rows"
done
if [[ -n $torch_missing && (-z $only || $only == *pytorch*) ]]; then
  verdict all pytorch skip "$torch_missing"
fi
if ((session_gpus < 2)); then verdict all "two GPUs in one session" skip "the machine has one GPU"; fi

# --- Results ----------------------------------------------------------------------------------------------------

# The median of what is ours in each case of farpool-bench's table.
medians() {
  awk '/^[^ ]/ { name = $0 } /^  (cuda|four threads|beside a copy) / { sub(/^  (cuda|four threads|beside a copy) +/, ""); print name "\t" $1 }' \
    "$work/$1/bench.stdout" 2>/dev/null
}

if [[ -z $results ]]; then results=$kit/results/$(date +%F)-gpu.md; fi
mkdir -p "$(dirname "$results")"
{
  echo "# Natively and through a pool, $(date +%F)"
  echo
  echo "- GPU: $gpu_count × $gpu_name"
  echo "- driver interface: $driver_version; kernel module: ${kernel_driver:-none}; library: $driver"
  echo "- commit: $(cat "$kit/commit")"
  echo "- machine: $(nproc) processors, Linux $(uname -r)"
  echo "- result: $passed passed, $failed failed, $skipped skipped"
  for reason in ${reasons[@]+"${reasons[@]}"}; do echo "- skipped: $reason"; done
  echo
  echo '| check | native | unix | tcp | native ms | unix ms | tcp ms | unix/native | tcp/native |'
  echo '|---|---|---|---|---:|---:|---:|---:|---:|'
  cat "$rows"
  if [[ -s $work/native/bench.stdout ]]; then
    printf '\n## farpool-bench, medians\n\n| case | native | unix | tcp | unix/native | tcp/native |\n|---|---:|---:|---:|---:|---:|\n'
    for way in native "${transports[@]}"; do medians "$way" >"$work/medians.$way"; done
    awk -F'\t' '
      FILENAME ~ /native$/ { order[++count] = $1; native[$1] = $2 }
      FILENAME ~ /unix$/ { unix[$1] = $2 }
      FILENAME ~ /tcp$/ { tcp[$1] = $2 }
      function ratio(a, b) { return a > 0 && b > 0 ? sprintf("%.2f", a / b) : "" }
      END {
        for (i = 1; i <= count; i++) {
          n = order[i]
          printf "| %s | %s | %s | %s | %s | %s |\n", n, native[n], unix[n], tcp[n], ratio(unix[n], native[n]), ratio(tcp[n], native[n])
        }
      }' "$work"/medians.{native,unix,tcp}
  fi
  for way in native "${transports[@]}"; do
    if [[ -s $work/$way/pytorch.stdout ]]; then
      printf '\n## PyTorch, %s\n\n```\n%s\n```\n' "$way" "$(of "$way" pytorch.stdout)"
    fi
  done
  if [[ -s $details ]]; then printf '\n## What failed\n\n'; cat "$details"; fi
  for transport in "${transports[@]}"; do
    if ((failed > 0)) && [[ -s $work/$transport.log ]]; then
      printf '\n## End of the log, %s\n\n```\n%s\n```\n' "$transport" "$(grep -v '"INFO"' "$work/$transport.log" | tail -n 20)"
    fi
  done
} >"$results"

# "2 × one reason; 1 × another".
joined=$(printf '%s\n' ${reasons[@]+"${reasons[@]}"} | sed 's/^[^:]*: //' | sort | uniq -c |
  awk 'NF > 1 { count = $1; $1 = ""; printf "%s%d ×%s", separator, count, $0; separator = "; " }')
echo "written: $results"
echo "$passed passed, $failed failed, $skipped skipped${joined:+ ($joined)}"
((failed == 0 && passed > 0))
