"""`mgmae COMMAND`: pre-training, pictures and measurements from the command line."""

import importlib
import sys
from collections.abc import Sequence

from absl import flags

import mgmae_jax
from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.host_memory import keep_freed_memory

COMMANDS = {
    "pretrain": "pre-train a masked autoencoder on videos",
    "finetune": "train a classifier on labelled videos, from a pre-trained encoder",
    "evaluate": "measure the accuracy of a fine-tuned model, class by class",
    "report": "compare two evaluations",
    "probe": "measure how well frozen features separate the classes",
    "features": "write the features of videos to a file",
    "flow": "compute the flow of videos once, and store it beside them",
    "train-flow": "train the flow network on procedural motion",
    "visualize": "draw the motion guided masks of a video, or pairs of synthetic motion",
    "bench": "measure masking, pre-training and flow: speed, memory, error",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: the arguments without the program's name; by default the process's own.

    Returns:
      The exit status: 0, 1 for an error that the message explains, 2 for a wrong command line, 130 for Ctrl-C.
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
    keep_freed_memory()
    flags.FLAGS.mark_as_parsed()  # Grain reads absl flags in its worker processes.
    try:
        # Imported here, so that help and error messages appear without waiting for JAX.
        return importlib.import_module(f"mgmae_jax.commands.{argv[0].replace('-', '_')}").main(argv[1:]) or 0
    except MgmaeError as error:
        print(f"\nmgmae {argv[0]}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        return 130


def usage() -> str:
    """The text of `mgmae --help`."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    return f"usage: mgmae COMMAND ...\n\n{commands}\n\n`mgmae COMMAND --help` shows its options and an example."


if __name__ == "__main__":
    sys.exit(main())
