#!/usr/bin/env bash
# A Ray cluster within one Slurm allocation, and a job on it: sbatch deploy/slurm.sh --dataset.uri /shared/videos ...
# Words after the script's name are settings of `recapture run`. RECAPTURE_VENV names the environment with the
# package, on a disk that all nodes see, as are store and outputs.
#SBATCH --job-name=recapture
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -euo pipefail

if [ -n "${RECAPTURE_VENV:-}" ]; then
  # shellcheck source=/dev/null
  source "$RECAPTURE_VENV/bin/activate"
fi
cpus=${SLURM_CPUS_PER_TASK:?run this with sbatch}
gpus=${SLURM_GPUS_ON_NODE:-0}
port=${RECAPTURE_RAY_PORT:-$((20000 + SLURM_JOB_ID % 20000))}
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address="$(srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}'):$port"

export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(python -c 'import secrets; print(secrets.token_hex(32))')}
export RAY_AUTH_TOKEN

# Every node is one `ray start --block`; srun ends it with the allocation.
steps=()
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
  ray start --head --block --port="$port" --include-dashboard=false --num-cpus="$cpus" --num-gpus="$gpus" &
steps+=($!)
trap 'kill "${steps[@]}" ${driver:-} 2>/dev/null || true; wait' EXIT
until srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" ray health-check --address "$address" >/dev/null 2>&1
do
  kill -0 "${steps[0]}" || { echo "Ray did not start on $head" >&2; exit 1; }
  sleep 2
done
for node in "${nodes[@]:1}"; do
  srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" \
    ray start --block --address="$address" --num-cpus="$cpus" --num-gpus="$gpus" &
  steps+=($!)
done

# TERM comes two minutes before the end, or when the job is preempted: the driver ends its workers, and what is
# finished stays. With --requeue Slurm then starts this script again, which makes what is missing.
again() {
  kill -TERM "$driver" 2>/dev/null || true
  wait "$driver" || true
  scontrol requeue "$SLURM_JOB_ID" || true
  exit 0
}
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
  recapture run --profile cluster --execution.ray_address "$address" --execution.attempts 10 "$@" &
driver=$!
trap again TERM
wait "$driver"
