"""What tells TensorFlow from PyTorch: gradients, and how a loop is compiled.

Everything else in the package is written with `keras.ops`, which has no gradients.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from descnet3d.energy import together

SUPPORTED = ("tensorflow", "torch")


# On a CPU TensorFlow asks the system for the memory of each result and hands it back; its own pool
# keeps it, and spares the page faults. It reads this when it first computes.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")


class BackendError(ValueError):
    """The Keras backend in use can't do what is asked for."""


def require_gradients(purpose: str) -> None:
    """Raise where the Keras backend has no gradients behind this seam.

    Args:
        purpose: what needs them, the subject of the message ("training").

    Raises:
        BackendError: on a backend other than TensorFlow and PyTorch.
    """
    name = keras.backend.backend()
    if name not in SUPPORTED:
        raise BackendError(
            f"{purpose} needs the TensorFlow or the PyTorch backend of Keras, but the backend is "
            f"{name!r}: set KERAS_BACKEND=tensorflow (or torch) before Keras is imported."
        )


def on_cpu() -> bool:
    """Whether new tensors lie in the processor's memory, and not on a GPU."""
    return "cpu" in str(keras.ops.convert_to_tensor(0.0).device).lower()


def value_and_input_gradient(
    function: Callable[[Any], Any], inputs: Any, *, differentiable: bool = False
) -> tuple[Any, Any]:
    """Values of a function of a batch, and their gradient with respect to the batch.

    Args:
        function: maps a batch `[n, ...]` to one scalar a row, `[n]`; rows do not interact.
        inputs: the batch, float32 `[n, ...]`.
        differentiable: whether the gradient will itself be differentiated with respect to
            variables (score matching needs it; it costs memory).

    Returns:
        The values `[n]` and the gradient, of the shape of `inputs`.
    """
    require_gradients("a gradient")
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        inputs = tf.convert_to_tensor(inputs)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            values = function(inputs)
        return values, tape.gradient(values, inputs)

    import torch

    with torch.enable_grad():
        inputs = keras.ops.convert_to_tensor(inputs).detach().requires_grad_(True)
        values = function(inputs)
        (gradient,) = torch.autograd.grad(values.sum(), inputs, create_graph=differentiable)
    return (values if differentiable else values.detach()), gradient


def gradients(
    function: Callable[[], tuple[Any, Any]], variables: Sequence[keras.Variable]
) -> tuple[Any, list[Any]]:
    """The gradients of a loss with respect to variables.

    Args:
        function: takes nothing; returns the scalar loss and anything else worth keeping.
        variables: what to differentiate with respect to.

    Returns:
        What the function returned beside the loss, and one gradient a variable (zeros for a
        variable that the loss does not depend on).
    """
    require_gradients("training")
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss, extra = function()
        return extra, tape.gradient(
            loss,
            [variable.value for variable in variables],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    import torch

    values = [variable.value for variable in variables]
    with torch.enable_grad(), _without_subnormal_numbers():
        loss, extra = function()
        found = torch.autograd.grad(loss, values, allow_unused=True)
    return extra, [
        torch.zeros_like(value) if gradient is None else gradient
        for value, gradient in zip(values, found, strict=True)
    ]


@contextmanager
def _without_subnormal_numbers() -> Iterator[None]:
    """PyTorch on a CPU with numbers below 1e-38 taken for zero, as TensorFlow has them anyway.

    Gradients have many of them, and a CPU takes far longer for each: twice for an iteration.
    """
    import torch

    kept = bool(torch.tensor(1e-40) * 1.0 > 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(not kept)


def descend(
    function: Callable[[], tuple[Any, Any]],
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
) -> Any:
    """One step of an optimizer down a loss, which is scaled as the optimizer has it.

    Replicas of a `tf.distribute` strategy, or processes of `torch.distributed`, take the step
    together: each down the mean of all their gradients.

    Args:
        function: takes nothing; returns the scalar loss and anything else worth keeping.
        optimizer: built on these variables.
        variables: what it moves.

    Returns:
        What the function returned beside the loss.
    """

    def scaled() -> tuple[Any, Any]:
        loss, extra = function()
        return optimizer.scale_loss(loss), extra

    extra, found = gradients(scaled, variables)
    if keras.backend.backend() == "torch":
        import torch

        with torch.no_grad():
            optimizer.apply(together.averaged(found), list(variables))
        return extra
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    if replica is not None and replica.num_replicas_in_sync > 1:
        found = replica.all_reduce(tf.distribute.ReduceOp.MEAN, found)
        # Keras sums over the replicas after it has clipped each one's gradients to the norm that
        # is meant for those of the whole batch.
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        inner._all_reduce_sum_gradients = lambda pairs: pairs
    optimizer.apply(found, list(variables))
    return extra


def with_known_shape(batch: Any, grid: tuple[int, ...]) -> Any:
    """A batch of a generator, whose tensors don't tell their shape, as one of grids that do.

    Args:
        batch: `[n, D, H, W]`, with or without a last axis of length 1; anything with a shape.
        grid: the `(D, H, W)` that is expected. Other grids are an error as soon as they come, where
            the shape is not known before.

    Returns:
        The same batch.
    """
    if keras.backend.backend() != "tensorflow" or not hasattr(batch.shape, "rank"):
        return batch
    if batch.shape.rank is not None and None not in batch.shape[1:]:
        return batch
    import tensorflow as tf

    shape = tf.TensorShape([None, *grid] + [1] * (batch.shape.rank == 5))
    if not batch.shape.is_compatible_with(shape):
        return batch
    return tf.ensure_shape(batch, shape)


def compiled(function: Callable[..., Any], *, differentiable: bool = False) -> Callable[..., Any]:
    """The function, compiled as this package compiles loops.

    TensorFlow traces a plain graph, for any number of rows but a graph for each grid: code may ask
    for the sides of what it gets. It is never handed to XLA: on a CPU, XLA runs the small strided
    convolutions of these networks up to 300 times slower. PyTorch runs it as it is, and keeps
    nothing for gradients with respect to weights.

    Args:
        function: of tensors whose first axis counts rows, and of tuples of such, or None.
        differentiable: whether what it returns may itself be differentiated. The gradients that it
            takes (`value_and_input_gradient`) need no such thing.
    """
    if keras.backend.backend() == "torch" and not differentiable:
        import torch

        return torch.no_grad()(function)
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    @functools.cache
    def traced(sides: tuple[tuple[int, ...], ...]) -> Callable[..., Any]:
        return tf.function(function, jit_compile=False, reduce_retracing=True)

    def call(*arguments: Any) -> Any:
        return traced(
            tuple(tuple(each.shape[1:]) for each in tf.nest.flatten(arguments) if each is not None)
        )(*arguments)

    return call
