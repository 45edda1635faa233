"""Workers that train one model together: each its own chains and noise, all the same weights.

On PyTorch they are the processes of `torch.distributed`; on TensorFlow the replicas of a
`tf.distribute` strategy, on the devices of one process or of several.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np


class Workers:
    """A single worker; what several do otherwise is their classes' to say.

    Attributes:
        count: how many there are.
        rank: the number of this process among those that bring shapes of their own.
        first: whether this process is the one that writes files.
        across: whether they are replicas in several processes.
    """

    count = 1
    rank = 0
    first = True
    across = False

    def begin(self, shared: Sequence[keras.Variable], noise: Sequence[keras.Variable]) -> None:
        """Give all the first one's variables, and each its own noise.

        Args:
            shared: what all take over from the first.
            noise: states of random numbers, `[2]`, which are the same everywhere before.
        """

    def gathered(self, variables: Sequence[keras.Variable]) -> list[np.ndarray]:
        """Each worker's values of variables, with an axis of workers in front of theirs."""
        return [keras.ops.convert_to_numpy(variable.value)[None] for variable in variables]

    def give(self, variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
        """Give each worker its row of values as `gathered` has them."""
        for variable, rows in zip(variables, values, strict=True):
            variable.assign(rows[0])

    def any(self, flag: bool) -> bool:
        """Whether some process says so; all have to ask."""
        return flag


class Processes(Workers):
    """Those of `torch.distributed`, one a worker."""

    def __init__(self) -> None:
        from torch import distributed

        self.count, self.rank = distributed.get_world_size(), distributed.get_rank()
        self.first = self.rank == 0

    def begin(self, shared: Sequence[keras.Variable], noise: Sequence[keras.Variable]) -> None:
        """As of one worker."""
        import torch

        for variable in shared:
            torch.distributed.broadcast(variable.value.data, 0)
        for state in noise:
            state.assign(state + np.array([self.rank, 0]))
        if self.rank:  # of dropout layers without a seed
            torch.manual_seed(torch.initial_seed() + self.rank)

    def gathered(self, variables: Sequence[keras.Variable]) -> list[np.ndarray]:
        """As of one worker."""
        import torch

        found = []
        for variable in variables:
            own = variable.value.detach().contiguous()
            every = [torch.empty_like(own) for _ in range(self.count)]
            torch.distributed.all_gather(every, own)
            found.append(keras.ops.convert_to_numpy(torch.stack(every)))
        return found

    def give(self, variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
        """As of one worker."""
        for variable, rows in zip(variables, values, strict=True):
            variable.assign(rows[self.rank])

    def any(self, flag: bool) -> bool:
        """As of one worker."""
        import torch

        told = keras.ops.convert_to_tensor([float(flag)])
        torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
        return bool(told[0])


class Replicas(Workers):
    """Those of a `tf.distribute` strategy, under which the variables were made."""

    def __init__(self, strategy: Any) -> None:
        self.strategy = strategy
        self.count = strategy.num_replicas_in_sync
        resolver = strategy.cluster_resolver
        jobs = resolver.cluster_spec().jobs if resolver is not None else []
        self.across = len(jobs) > 0
        if self.across:
            chief = "chief" if "chief" in jobs else "worker"
            self.first = (resolver.task_type, resolver.task_id) == (chief, 0)

    def begin(self, shared: Sequence[keras.Variable], noise: Sequence[keras.Variable]) -> None:
        """As of one worker; the strategy itself sees to what is shared."""
        import tensorflow as tf

        @tf.function
        def part() -> None:
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            for state in noise:
                own = tf.stack([tf.cast(number, "uint32"), tf.zeros((), "uint32")])
                state.assign(state + own)

        self.strategy.run(part)

    def gathered(self, variables: Sequence[keras.Variable]) -> list[np.ndarray]:
        """As of one worker."""
        import tensorflow as tf

        def part(variable: keras.Variable) -> Any:
            value = tf.convert_to_tensor(variable.value)[None]
            return tf.cast(value, "int64") if value.dtype == "uint32" else value

        rows = [
            self.strategy.gather(self.strategy.run(part, (variable,)), 0) for variable in variables
        ]
        return [
            value.numpy().astype(variable.dtype)
            for value, variable in zip(rows, variables, strict=True)
        ]

    def give(self, variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
        """As of one worker."""
        import tensorflow as tf

        @tf.function
        def part(each: list[Any]) -> None:
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            for variable, rows in zip(variables, each, strict=True):
                variable.assign(rows[number])

        self.strategy.run(part, ([tf.convert_to_tensor(rows) for rows in values],))

    def any(self, flag: bool) -> bool:
        """As of one worker."""
        if not self.across:
            return flag
        import tensorflow as tf

        told = self.strategy.run(lambda: tf.constant([float(flag)]))
        return bool(tf.reduce_max(self.strategy.gather(told, 0)) > 0)


def workers_of(model: Any) -> Workers:
    """Those that train a model: processes, replicas, or one alone."""
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is not None and strategy.num_replicas_in_sync > 1:
        return Replicas(strategy)
    return processes()


def processes() -> Workers:
    """The processes of `torch.distributed` that train together; where none do, this one alone."""
    if keras.backend.backend() != "torch":
        return Workers()
    from torch import distributed

    together = distributed.is_available() and distributed.is_initialized()
    return Processes() if together and distributed.get_world_size() > 1 else Workers()


def averaged(values: Sequence[Any]) -> list[Any]:
    """The mean of each tensor over all processes of `torch.distributed`, in one exchange."""
    count = processes().count
    if count == 1:
        return list(values)
    import torch

    joint = torch.cat([value.detach().reshape(-1) for value in values])
    torch.distributed.all_reduce(joint)
    parts = (joint / count).split([value.numel() for value in values])
    return [part.reshape(value.shape) for part, value in zip(parts, values, strict=True)]


@contextlib.contextmanager
def joined() -> Iterator[Workers]:
    """Trains along with the other processes that `torchrun`, say, has started with this one.

    Yields:
        All of them.

    Raises:
        ValueError: the backend is another than PyTorch.
    """
    name = keras.backend.backend()
    if name != "torch":
        raise ValueError(
            f"{os.environ['WORLD_SIZE']} processes were started (WORLD_SIZE), and the backend of "
            f"Keras is {name}: they train together on PyTorch, with KERAS_BACKEND=torch."
        )
    import torch

    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    # While the first makes voxels of a large folder, or draws, the others wait.
    waiting = datetime.timedelta(days=1)
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=waiting)
    yield Processes()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
