#!/usr/bin/env bash
# Everything that has to be measured on a GPU, in at most seven minutes:
#
#     benchmarks/gpu.sh OUT              # on a machine with an NVIDIA GPU, from a bare checkout, without a network
#     benchmarks/gpu.sh OUT --rehearse   # every stage, tiny, on a CPU, with Triton's interpreter where there is Triton
#
# Needs Python >= 3.11 with PyTorch and Triton (PYTHON=... names another one than python3); the first stage says what
# goes without further packages. A stage has a time limit of its own, and none stops another one. OUT holds what each
# stage wrote, its output as STAGE.log, and summary.txt.
set -u
out=${1:?usage: benchmarks/gpu.sh OUT [--rehearse]}
mode=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
python=${PYTHON:-python3}
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
total=${TOTAL_SECONDS:-420}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
export TRITON_CACHE_DIR="$out/triton-cache"
SECONDS=0
device=cuda
if [ "$mode" = --rehearse ]; then
    device=cpu
    export TRITON_INTERPRET=1 CUDA_VISIBLE_DEVICES=
elif ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "no CUDA device that PyTorch can use, or no PyTorch; --rehearse does without" >&2
    exit 2
fi
: > "$out/stages.txt"

# stage NAME SECONDS COMMAND...: run it for at most so long, and no longer than there is time left
stage() {
    local name=$1 limit=$2 left=$((total - SECONDS)) began=$SECONDS said
    shift 2
    if [ "$left" -lt 5 ]; then
        echo "$name: left out, the time is up" | tee -a "$out/stages.txt"
        return
    fi
    echo "== $name (at most $((limit < left ? limit : left)) s): $*"
    timeout -k 5 $((limit < left ? limit : left)) "$@" > "$out/$name.log" 2>&1
    case $? in
        0) said=done ;;
        124 | 137) said="stopped at its time limit" ;;
        *) said="failed: $(tail -n 1 "$out/$name.log" | cut -c 1-160)" ;;
    esac
    echo "$name: $said ($((SECONDS - began)) s)" | tee -a "$out/stages.txt"
}

script() { # script NAME SECONDS FILE ARGUMENTS...
    local name=$1 limit=$2 file=$3
    shift 3
    stage "$name" "$limit" "$python" "$here/$file" "$@"
}

script check 30 plain.py
cat "$out/check.log"
script values 90 values.py --device $device --out "$out/values.json"
if [ $device = cuda ]; then
    script losses 130 losses.py --cases S,L,head,M,L-half,XL,M-half,L-256 --seconds 110 --out "$out/losses.json"
    script launches 70 launches.py --cases S,L,head,M,L-half --out "$out/launches.json"
else
    script losses 60 losses.py --cases tiny --rounds 1 --device cpu --out "$out/losses.json"
    script launches 60 launches.py --cases tiny --device cpu --out "$out/launches.json"
fi
script training 60 training.py --device $device --out "$out/training.json"
if [ $device = cuda ]; then
    stage tests 60 "$python" -m pytest -q -p no:cacheprovider -m gpu "$root/tests/losses" "$root/tests/memory" \
        "$root/tests/test_metrics.py" "$root/tests/test_gpu_step.py"
    script memory 60 memory.py --device cuda --out "$out/memory.json"
    script floor 45 floor.py --cases L,S --rounds 5 --out "$out/floor.json"
    stage kernels 120 "$python" -m pytest -q -p no:cacheprovider -m "not gpu and not slow" \
        "$root/tests/losses/test_kernels.py"
else
    stage tests 60 "$python" -m pytest -q -p no:cacheprovider --collect-only -m gpu "$root/tests/losses"
    script memory 60 memory.py --device cpu --tiny --out "$out/memory.json"
    script floor 60 floor.py --cases tiny --rounds 1 --device cpu --out "$out/floor.json"
fi
{
    cat "$out/stages.txt"
    "$python" "$here/bars.py" "$out"
} 2>&1 | tee "$out/summary.txt"
echo "$SECONDS s in all; everything is in $out"
