"""A command that `torchrun`, or a cluster's launcher, has started in several processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from descnet3d.commands.outputs import start_keras

if TYPE_CHECKING:
    from descnet3d.energy.together import Workers

# What PyTorch's processes find each other by, whoever sets it.
_MEETING = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")


@contextlib.contextmanager
def joined() -> Iterator[Workers | None]:
    """The workers that this process trains along with; None where it was started alone.

    Raises:
        ValueError: it was not, and the backend of Keras is another than PyTorch.
    """
    if not all(name in os.environ for name in _MEETING) or os.environ["WORLD_SIZE"] == "1":
        yield None
        return
    start_keras()
    from descnet3d.energy import together

    with together.joined() as workers:
        yield workers


@contextlib.contextmanager
def first_before_others(workers: Workers | None) -> Iterator[None]:
    """Lets the first process do alone what the others then find done."""
    if workers is not None and not workers.first:
        workers.any(False)
    yield
    if workers is not None and workers.first:
        workers.any(False)
