#!/usr/bin/env bash
# A run on a Cloud TPU VM or pod slice, one process on each of its hosts:
#
#   TPU=my-v5e-64 ZONE=us-west4-a launch/tpu_vm.sh pretrain \
#     --config pretrain/ssv2_vit_b --workdir /mnt/shared/runs/ssv2
#
# The arguments are those of `mgmae`. On every host the project is installed in $PROJECT (with `pip install -e '.[tpu]'`
# in its .venv), and the workdir and the data are mounted at the same place (Filestore, or a bucket through gcsfuse).
# The hosts find each other through the TPU's metadata. After a preemption the same command resumes from the last
# checkpoint.
set -euo pipefail

: "${TPU:?name of the TPU, as in: gcloud compute tpus tpu-vm list}"
: "${ZONE:?zone of the TPU, such as us-west4-a}"
PROJECT=${PROJECT:-mgmae-jax} # relative to the home folder there
(($#)) || { echo "usage: TPU=NAME ZONE=ZONE $0 COMMAND ARGS... (those of mgmae)" >&2 && exit 2; }

# The remote shell splits the command again, so each argument is quoted for it.
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
  --command="cd $(printf %q "$PROJECT") && exec .venv/bin/mgmae$(printf ' %q' "$@")"
