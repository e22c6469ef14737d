#!/usr/bin/env bash
# A run on a Cloud TPU VM or pod slice, one process on each of its hosts (docs/LAUNCH.md):
#
#   export TPU=my-v5e-64 ZONE=us-west4-a
#   launch/tpu_vm.sh create v5litepod-64 v2-alpha-tpuv5-lite --spot    its type, its image, more options of gcloud
#   launch/tpu_vm.sh install                                           this project, on every host
#   launch/tpu_vm.sh run pretrain --config pretrain/ssv2_vit_b --workdir /mnt/shared/runs/ssv2 \
#     --config.data.path=/mnt/shared/ssv2/train.csv
#   launch/tpu_vm.sh logs                                              follows the first host; logs 3: that host
#   launch/tpu_vm.sh stop                                              the run saves and ends; run ... resumes it
#   launch/tpu_vm.sh delete                                            the TPU, after a question
#
# --dry-run before the subcommand prints what it would run, and runs nothing. The arguments of `run` are those of
# `mgmae`. It is detached: a systemd unit on every host, which the connection's end does not end. Of this shell's
# environment the run gets MGMAE_CACHE, JAX_COMPILATION_CACHE_DIR, LIBTPU_INIT_ARGS and XLA_FLAGS. The workdir and the
# data are mounted at the same place on every host. FOLDER (mgmae-jax) is where the project is installed, below the home
# folder there. The hosts find each other through the TPU's metadata.
set -euo pipefail

fail() {
  echo "$0: $1 (see $0 --help)" >&2
  exit 2
}

dry=
while (($#)); do
  case $1 in
    --dry-run) dry=1 ;;
    -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" && exit ;;
    -*) fail "unknown option $1" ;;
    *) break ;;
  esac
  shift
done
(($#)) || fail "no subcommand: give create, install, run, logs, stop or delete"
subcommand=$1
shift
: "${TPU:?name of the TPU, as in: gcloud compute tpus tpu-vm list}"
: "${ZONE:?zone of the TPU, such as us-west4-a}"
FOLDER=${FOLDER:-mgmae-jax}
LOG=mgmae.log # in FOLDER, on each host
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(printf %q "$FOLDER")

run() { # a command
  if [[ -n $dry ]]; then
    printf '%q ' "$@" | sed 's/ $/\n/'
  else
    "$@"
  fi
}

tpu_vm() { # a command of gcloud about this TPU, with what follows its name
  run gcloud compute tpus tpu-vm "$1" "$TPU" --zone="$ZONE" "${@:2}"
}

on() { # worker, command for its shell
  tpu_vm ssh --worker="$1" --command="$2"
}

nothing_more() { # what is left of the arguments
  (($# == 0)) || fail "$subcommand $1: $subcommand takes no arguments; --dry-run comes before it"
}

create() {
  (($# >= 2)) || fail "create: give the type and the image, as in: create v5litepod-64 v2-alpha-tpuv5-lite"
  tpu_vm create --accelerator-type="$1" --version="$2" "${@:3}"
}

# Images bring Python 3.10 and older; uv brings its own where none from 3.11 on is there.
# shellcheck disable=SC2016  # for the shell there
readonly INSTALL='set -e
fail() { echo "$(hostname): $1" >&2; exit 1; }
rm -rf mgmae_jax configs
tar -xzf "$HOME/mgmae-jax.tar.gz"
export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
command -v uv >/dev/null || fail "uv could not be installed (docs.astral.sh/uv): install it, then run this again"
uv venv --quiet --allow-existing --python ">=3.11,<3.13" .venv ||
  fail "there is no Python 3.11 or 3.12, and uv could not get one: install one, then run this again"
uv pip install --quiet --reinstall-package mgmae-jax --constraint constraints.txt ".[tpu]"
echo "$(hostname): $(.venv/bin/mgmae --version), $(.venv/bin/python --version)"'

install() {
  nothing_more "$@"
  local archive
  if [[ -n $dry ]]; then archive=/tmp/mgmae-jax.tar.gz; else
    archive=$(mktemp -d)/mgmae-jax.tar.gz
    trap 'rm -r "$(dirname "'"$archive"'")"' EXIT
  fi
  run tar -czf "$archive" --exclude=__pycache__ -C "$root" \
    pyproject.toml constraints.txt README.md LICENSE mgmae_jax configs
  run gcloud compute tpus tpu-vm scp "$archive" "$TPU:mgmae-jax.tar.gz" --zone="$ZONE" --worker=all
  on all "mkdir -p $folder && cd $folder && $INSTALL"
}

run_detached() {
  (($#)) || fail "run: give the command of mgmae, as in: run pretrain --config demo --workdir runs/demo"
  # SIGTERM goes to mgmae, not to its data workers, and leaves it five minutes to save. A unit of this name that still
  # runs is an error, so that two runs never share the chips; what is left of one that ended is replaced.
  local unit="sudo systemd-run --unit=mgmae --collect --uid=\$(id -un) --working-directory=\"\$PWD\""
  unit+=" -p KillMode=mixed -p TimeoutStopSec=300 -p LimitMEMLOCK=infinity -p LimitNOFILE=1048576"
  unit+=" -p StandardOutput=append:\"\$PWD\"/$LOG -p StandardError=append:\"\$PWD\"/$LOG"
  local name
  for name in MGMAE_CACHE JAX_COMPILATION_CACHE_DIR LIBTPU_INIT_ARGS XLA_FLAGS; do
    if [[ -n ${!name:-} ]]; then unit+=" --setenv=$name=$(printf %q "${!name}")"; fi
  done
  # The remote shell splits the command again, so each argument is quoted for it; systemd makes $ of $$.
  on all "cd $folder && $unit \"\$PWD\"/.venv/bin/mgmae$(printf ' %q' "${@//\$/\$\$}")"
}

logs() {
  [[ $# -lt 2 && ${1:-0} =~ ^[0-9]+$ ]] || fail "logs $*: give the number of a host"
  on "${1:-0}" "tail -n 100 -F $folder/$LOG"
}

case $subcommand in
  create) create "$@" ;;
  install) install "$@" ;;
  run) run_detached "$@" ;;
  logs) logs "$@" ;;
  # SIGTERM, and SIGKILL after five minutes: the chips are free again. 5: nothing runs there.
  stop) nothing_more "$@" && on all 'sudo systemctl stop mgmae || [ $? -eq 5 ]' ;;
  delete) nothing_more "$@" && tpu_vm delete ;;
  *) fail "unknown subcommand $subcommand: give create, install, run, logs, stop or delete" ;;
esac
