"""`mgmae COMMAND`: pre-training, pictures and measurements from the command line."""

import functools
import importlib
import io
import os
import select
import sys
import traceback
from collections.abc import Callable, Sequence

from absl import flags

import mgmae_jax
from mgmae_jax.errors import MgmaeError, StoppedError
from mgmae_jax.runtime.host_memory import keep_freed_memory
from mgmae_jax.runtime.xla_flags import set_xla_flags

COMMANDS = {
    "pretrain": "pre-train a masked autoencoder on videos",
    "finetune": "train a classifier on labelled videos, from a pre-trained encoder",
    "evaluate": "measure the accuracy of a fine-tuned model, class by class",
    "report": "put runs on a page: curves, previews, configs, evaluations; or compare two evaluations",
    "probe": "measure how well frozen features separate the classes",
    "features": "write the features of videos to a file",
    "convert": "models of other programs to this project's, and back",
    "prepare": "write videos to records, which are read faster than files",
    "check-data": "read every video once, and say what is broken and what the videos are like",
    "flow": "compute the flow of videos once, and store it beside them",
    "train-flow": "train the flow network on procedural motion",
    "plan": "say ahead of time whether a run fits some machines, and how long it takes on them",
    "ablate": "run a grid of experiments with several seeds, and compare its rows",
    "visualize": "draw the motion guided masks of a video, or pairs of synthetic motion",
    "explore": "put a video on a page where it plays under several masking strategies at once",
    "bench": "measure masking, pre-training and flow: speed, memory, error",
}
_SAVED = dict.fromkeys(("pretrain", "finetune", "train-flow"), "from the last checkpoint")
_DONE = dict.fromkeys(("evaluate", "probe", "features", "prepare", "flow", "ablate"), "after what is done")
RESUMES = {**_SAVED, **_DONE}
"""Where a command that is given again begins, for those that do not begin anew."""
_FEWER = "Give fewer clips a device"
_OR_MORE = "more of train.accumulate or mesh.fsdp, or model.remat=True"
_PRETRAIN = f"{_FEWER} (train.batch_size, data.views), {_OR_MORE}."
MORE_MEMORY = {
    "pretrain": _PRETRAIN,
    "finetune": f"{_FEWER} (train.batch_size, data.views, eval.clips_per_device), {_OR_MORE}.",
    "evaluate": f"{_FEWER} (eval.clips_per_device).",
    "probe": f"{_FEWER} (eval.clips_per_device; with probe.kind=attentive, train.batch_size).",
    "features": f"{_FEWER} (--clips-per-device).",
    "flow": "Give smaller frames (--size).",
    "train-flow": "Give fewer pairs a step (train.batch_size).",
    "bench": f"{_FEWER} (--batch-size; with guess and overfit train.batch_size, data.views), {_OR_MORE}.",
}
"""What to do when a command is out of memory, where a field of its config or an option decides."""


def _ends_with_its_reader(run: Callable[..., int]) -> Callable[..., int]:
    """Has `main` end quietly where nobody reads what it prints any longer, as in `mgmae plan ... | head`."""

    @functools.wraps(run)
    def until_closed(argv: Sequence[str] | None = None) -> int:
        try:
            try:
                status: int | SystemExit = run(argv)
            except SystemExit as ended:  # of argparse, which has printed the help or what is wrong
                status = ended
            sys.stdout.flush()  # as Python does at its end, where an error has no handler
        except BrokenPipeError:
            if not _stdout_is_closed():  # but the pipe of a worker, for example
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())  # for what is left to flush
            os.close(nowhere)
            return 141
        if isinstance(status, SystemExit):
            raise status
        return status

    return until_closed


@_ends_with_its_reader
def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: the arguments without the program's name; by default the process's own.

    Returns:
      The exit status: 0, 1 for an error that the message explains, 2 for a wrong command line, 3 if another process
      of the run failed, 130 for Ctrl-C, 141 if nobody reads what it prints any longer (`| head`), 143 for a training
      run that SIGTERM stopped and that is saved.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"mgmae-jax {mgmae_jax.__version__}")
        return 0
    if argv[0] not in COMMANDS:
        print(f"mgmae: there is no command {argv[0]!r}\n\n{usage()}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may not be UTF-8
    keep_freed_memory()
    set_xla_flags(os.environ)
    flags.FLAGS.mark_as_parsed()  # Grain reads absl flags in its worker processes.
    try:
        # Imported here, so that help and error messages appear without waiting for JAX.
        command = importlib.import_module(f"mgmae_jax.commands.{argv[0].replace('-', '_')}")
    except ValueError as error:  # all that JAX raises for JAX_ENABLE_X64=maybe, for example
        rejected = MgmaeError(f"the environment has a variable that JAX rejects: {error}. Change or unset it.")
        return _failed(argv[0], rejected)
    except KeyboardInterrupt as error:
        return _failed(argv[0], error)
    try:
        return command.main(argv[1:]) or 0
    except (Exception, KeyboardInterrupt) as error:
        return _failed(argv[0], error)


def _failed(name: str, error: BaseException) -> int:
    """Reports what ended a command, here and to the other processes of its run, and returns the exit status.

    Raises:
      Exception: the error itself, if it is not the user's.
    """
    peers = sys.modules["mgmae_jax.runtime.peers"].current() if "mgmae_jax.runtime.peers" in sys.modules else None
    status = 1
    if isinstance(error, KeyboardInterrupt):
        told, status = "interrupted", 130
        if name in RESUMES:
            told += f"; the same command resumes {RESUMES[name]}"
    elif isinstance(error, MgmaeError):
        told = f"mgmae {name}: {error}"
        status = 143 if isinstance(error, StoppedError) else 1
    elif isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        told = f"mgmae {name}: out of memory ({_first_line(error)}). {MORE_MEMORY.get(name, '')}".rstrip()
    elif peers is None:
        raise error
    else:
        told = "".join(traceback.format_exception(error))
    if peers is not None:  # does not return
        peers.leave(told, status, error)
    print(f"\n{told}", file=sys.stderr)
    return status


def _stdout_is_closed() -> bool:
    """Whether standard output is a pipe that nobody reads any longer."""
    try:
        output = sys.stdout.fileno()
    except io.UnsupportedOperation:  # of what a test captures
        return False
    poll = select.poll()
    poll.register(output, 0)  # errors are always told
    return bool(poll.poll(0))


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300] or type(error).__name__


def usage() -> str:
    """The text of `mgmae --help`."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    return f"usage: mgmae COMMAND ...\n\n{commands}\n\n`mgmae COMMAND --help` shows its options and an example."


if __name__ == "__main__":
    sys.exit(main())
