"""`python -m mgmae_jax.ablate.tied PARENT COMMAND ...` becomes a command that receives SIGTERM when its parent dies.

A training saves its state then. Without it the parts of a killed grid would run to their ends, unseen. Linux only;
elsewhere the command is run as it is.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>; it survives execve


def main(argv: Sequence[str]) -> None:
    """Replaces this process by the command.

    Args:
      argv: the number of the parent process, then the command.
    """
    parent, *command = argv
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):  # it died before that call
            sys.exit(128 + signal.SIGTERM)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
