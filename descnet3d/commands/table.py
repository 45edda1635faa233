"""The commands that there are, in the order of the help."""

from __future__ import annotations

from descnet3d.commands import (
    demo,
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
    demo.COMMAND,
    presets.COMMAND,
    train.COMMAND,
    finetune.COMMAND,
    evaluate.COMMAND,
    voxelize.COMMAND,
)
