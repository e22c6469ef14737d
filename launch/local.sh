#!/usr/bin/env bash
# Starts a run in one process, or in several on this machine, which find each other over localhost.
#
#   launch/local.sh -- mgmae pretrain --config demo --workdir runs/demo
#   launch/local.sh -n 4 -- mgmae pretrain ...                            one process for each of 4 GPUs
#   launch/local.sh -n 2 --devices-per-process 4 -- mgmae pretrain ...    8 virtual devices on the CPU
#
# Process 0 writes to the terminal; the lines of process I are prefixed with "[I] ". When one process fails the
# others are ended, and its status is that of the script. Ctrl-C and SIGTERM let the run save and exit; a second one,
# or $MGMAE_GRACE seconds (60), ends it.
set -euo pipefail

fail() {
  echo "$0: $1 (see $0 --help)" >&2
  exit 2
}

processes=1
devices=
while (($#)); do
  case $1 in
    -n | --devices-per-process)
      [[ -n ${2:-} && $2 != -- ]] || fail "$1: give a number"
      if [[ $1 == -n ]]; then processes=$2; else devices=$2; fi
      shift
      ;;
    -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" && exit ;;
    --) break ;;
    *) fail "unknown option $1" ;;
  esac
  shift
done
(($# > 1)) || fail "no command; give it after --"
shift
[[ $processes =~ ^[1-9][0-9]*$ ]] || fail "-n $processes: give a number of processes"
[[ -z $devices || $devices =~ ^[1-9][0-9]*$ ]] || fail "--devices-per-process $devices: give a number of devices"

if [[ -n $devices ]]; then
  export JAX_PLATFORMS=cpu
  export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=$devices"
fi
((processes > 1)) || exec "$@"

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port=$((20000 + RANDOM % 12000)) # below the range that the system gives to outgoing connections
while port_is_taken "$port"; do port=$((port + 1)); done
export JAX_COORDINATOR_ADDRESS=127.0.0.1:$port JAX_NUM_PROCESSES=$processes

gpus=0
if [[ -z $devices && ${JAX_PLATFORMS:-cuda} == cuda* ]] && command -v nvidia-smi >/dev/null; then
  gpus=$(nvidia-smi --list-gpus | wc -l)
  ((gpus >= processes)) || fail "-n $processes: there are $gpus GPUs here"
fi

pids=()
status=0
killer=

end_all() { # signal
  kill -s "$1" "${pids[@]}" 2>/dev/null || true
}

# shellcheck disable=SC2329  # called by the traps
stop() { # status
  status=$1
  trap 'end_all KILL' INT TERM
  end_all TERM
  (sleep "${MGMAE_GRACE:-60}" && end_all KILL) >/dev/null 2>&1 &
  killer=$!
}

prefix() { # each line in one write, so that lines of several processes do not mix (sed -u writes the newline apart)
  trap '' INT
  while IFS= read -r line || [[ -n $line ]]; do printf '[%s] %s\n' "$1" "$line"; done
}

trap 'stop 130' INT
trap 'stop 143' TERM
for ((i = 0; i < processes; i++)); do
  export JAX_PROCESS_ID=$i
  if ((gpus)); then export JAX_LOCAL_DEVICE_IDS=$i; fi
  if ((i == 0)); then
    "$@" &
  else
    "$@" > >(prefix "$i") 2> >(prefix "$i" >&2) &
  fi
  pids+=($!)
done

remaining=("${pids[@]}")
failed=0 # the status of a process that did not end as it was asked to
ending= # whether the others are being ended
patience=30 # times 0.2 s
while ((${#remaining[@]})); do
  sleep 0.2 & # `wait` for the processes themselves would not see a signal that comes just before it
  wait $! || true
  left=()
  for pid in "${remaining[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then
      left+=("$pid")
      continue
    fi
    code=0
    wait "$pid" || code=$?
    [[ -z $ending ]] || continue
    ((status && (code == 130 || code == 143))) && continue # stopped, and saved
    # 3: another one has failed, whose status says more
    if ((code && (!failed || failed == 3))); then failed=$code; fi
  done
  if [[ -z $ending ]] && ((failed && !status && (failed != 3 || patience-- == 0))); then
    ending=yes
    echo "$0: a process ended with status $failed; ending the others" >&2
    end_all KILL # they wait for the one that is gone, and could not save without it
  fi
  remaining=("${left[@]}")
done
[[ -z $killer ]] || kill "$killer" 2>/dev/null || true
exit "$((failed ? failed : status))"
