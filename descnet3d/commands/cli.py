"""The command line: `descnet3d COMMAND [ARGUMENTS] [--flags]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from descnet3d.commands import interrupts


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: what follows `descnet3d` on the command line; `sys.argv` where None.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated.
    """
    with interrupts.taken(for_good=arguments is None):
        try:
            status = _run(sys.argv[1:] if arguments is None else arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever reads the output (head, say) has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except BaseException as error:
            if not interrupts.came():
                raise
            status = interrupts.tell("", error)
        if interrupts.came() and arguments is None:
            # Half of TensorFlow was imported, perhaps: its end takes long, and changes the status.
            sys.stdout.flush()
            os._exit(status)
        return status


def _run(words: Sequence[str]) -> int:
    # An interrupt may come while these are imported: not before it is taken.
    from descnet3d.commands import console, table

    return console.run(table.COMMANDS, words)


if __name__ == "__main__":
    sys.exit(main())
