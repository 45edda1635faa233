"""The one seam that tells TensorFlow from PyTorch: gradients, and how a loop is compiled.

Everything else in the package is written with `keras.ops`, which has no gradients.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import keras

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
    with torch.enable_grad():
        loss, extra = function()
        found = torch.autograd.grad(loss, values, allow_unused=True)
    return extra, [
        torch.zeros_like(value) if gradient is None else gradient
        for value, gradient in zip(values, found, strict=True)
    ]


def apply_gradients(
    optimizer: keras.optimizers.Optimizer, gradients: Sequence[Any], variables: Sequence[Any]
) -> None:
    """One step of the optimizer, outside any automatic differentiation."""
    if keras.backend.backend() == "torch":
        import torch

        with torch.no_grad():
            optimizer.apply(list(gradients), list(variables))
    else:
        optimizer.apply(list(gradients), list(variables))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled as this package compiles loops.

    TensorFlow traces a plain graph. It is never handed to XLA: on a CPU, XLA runs the small strided
    convolutions of these networks up to 300 times slower. PyTorch runs as it is.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=False, reduce_retracing=True)
    return function
