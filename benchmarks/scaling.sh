#!/bin/sh
# Weak and strong scaling of a sharded training step on the GPUs of this machine, in about five minutes:
#   sh benchmarks/scaling.sh [RECORD.json]
# RANKS, ITEMS, BATCH, SECONDS_EACH and DEVICE in the environment change what is measured; DEVICE=cpu rehearses it.
set -eu
cd "$(dirname "$0")/.."
record=${1:-benchmarks/results/scaling.json}
python=${PYTHON:-.venv/bin/python}
device=${DEVICE:-cuda}
gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())')
if [ "$device" = cuda ] && [ "$gpus" -lt 1 ]; then
  echo "There is no GPU that PyTorch can use here; DEVICE=cpu RANKS=1,2 rehearses with processes on the CPU." >&2
  exit 2
fi
if [ -z "${RANKS:-}" ]; then # 1, 2, 4, ... and all there are
  RANKS=1 n=2
  while [ "$n" -lt "$gpus" ]; do RANKS="$RANKS,$n" n=$((2 * n)); done
  if [ "$gpus" -gt 1 ]; then RANKS="$RANKS,$gpus"; fi
fi
launches=$(echo "$RANKS" | tr ',' '\n' | wc -l)
exec "$python" benchmarks/distributed.py --ranks "$RANKS" --device "$device" --items "${ITEMS:-10000000}" \
  --batch-size "${BATCH:-512}" --repeats 10 --seconds "${SECONDS_EACH:-$((240 / launches))}" --out "$record"
