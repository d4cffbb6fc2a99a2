#!/bin/bash
# A Slurm job that goes on where it was: after a preemption, a requeue, its time limit or a node's failure, on whichever
# node it gets then, x86_64 or aarch64.
#
#   dunlin build queens.wasm                      # queens.x86_64 and queens.aarch64, where all nodes see them
#   sbatch examples/slurm/job.sh queens 16        # the program, and its arguments
#
# slurm.conf needs (examples/batch.md says more):
#
#   RequeueExit=85               a job whose program has saved itself goes back into the queue
#   PreemptMode=REQUEUE          and with GraceTime on the partition: time to save itself
#
#SBATCH --requeue
# What it has said before stays:
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
# A minute before the time limit, too (B: to this process, which becomes the program):
#SBATCH --signal=B:TERM@60
set -eu

program=$1
shift
# The executable for the node that the job got.
executable=$program.$(uname -m)
case $executable in */*) ;; *) executable=./$executable ;; esac

# One directory for each job, where all nodes see it: what the program goes on from is there. A snapshot every five
# minutes besides, so that a node's failure costs no more than that.
saves=${DUNLIN_SAVES:-$SLURM_SUBMIT_DIR}/$SLURM_JOB_NAME-$SLURM_JOB_ID.saves
export DUNLIN_OPTS="--checkpoint-on TERM --checkpoint-every ${DUNLIN_EVERY:-5m} --checkpoint-to ${saves@Q} ${DUNLIN_OPTS-}"

# exec: the program itself must get the signal. Its exit code 85 says that it has saved itself.
exec "$executable" "$@"
