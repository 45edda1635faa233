"""The command line: `descnet3d COMMAND [ARGUMENTS] [--flags]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from descnet3d.commands import (
    console,
    evaluate,
    finetune,
    generator,
    presets,
    reconstruct,
    synthesize,
    train,
    voxelize,
)

COMMANDS = (
    synthesize.COMMAND,
    reconstruct.RECOVER,
    reconstruct.UPSCALE,
    generator.GENERATE,
    generator.INTERPOLATE,
    generator.ARITHMETIC,
    presets.COMMAND,
    train.COMMAND,
    finetune.COMMAND,
    evaluate.COMMAND,
    voxelize.COMMAND,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: what follows `descnet3d` on the command line; `sys.argv` where None.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    try:
        status = console.run(COMMANDS, sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads the output (head, say) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return console.DONE
    return status


if __name__ == "__main__":
    sys.exit(main())
