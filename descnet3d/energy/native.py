"""A loss of a network as native code, which PyTorch makes for a CPU (docs/results/speed.md).

Element by element operations are fused, forward and backward, so that each tensor passes through
the memory once. Keras' own way to it, `jit_compile`, leaves so much of Python between the parts
that nothing is gained.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from descnet3d.energy.backend import BackendError
from descnet3d.energy.settings import require_products


def require_native(name: str, products: str) -> None:
    """Raise where native code is asked for and cannot be made.

    Args:
        name: the argument that asks for it.
        products: what it was given.

    Raises:
        ValueError: `products` is neither "no" nor one of `settings.PRODUCTS`.
        BackendError: on another backend, or without compiler or headers.
    """
    require_products(name, products)
    if products == "no":
        return
    if keras.backend.backend() != "torch":
        raise BackendError(
            f"{name}={products} needs PyTorch: set KERAS_BACKEND=torch before Keras is imported, "
            f"or {name}=no."
        )
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise BackendError(
            f"{name}={products} needs a C++ compiler, and there is no {compiler}: apt-get install "
            f"g++, or {name}=no."
        )
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        raise BackendError(
            f"{name}={products} needs the headers of Python: apt-get install python3-dev, or "
            f"{name}=no."
        )


def native(
    function: Callable[..., tuple[Any, Any]],
    trained: Sequence[keras.Variable],
    others: Sequence[keras.Variable],
    products: str,
) -> Callable[..., tuple[Any, Any]]:
    """A loss and its gradient as native code, made when first called; that takes half a minute.

    Args:
        function: of tensors, or of tuples of such, and of these variables, free of random numbers;
            returns a scalar loss, and anything else that is worth keeping.
        trained: the variables that the loss is differentiated with respect to.
        others: all others that it reads.
        products: of matrices and convolutions; "bfloat16" is the faster where the processor has
            it, and rounds their factors to 8 bits.

    Returns:
        The same function, whose loss `backend.gradients` differentiates. It is native code for
        arguments of the shapes that come first, and runs as it is for others, such as the last
        batch of an epoch.
    """
    import torch

    made: dict[str, Any] = {}

    class Known(torch.autograd.Function):
        """A loss whose gradient was computed with it."""

        @staticmethod
        def forward(context: Any, leaves: list[Any], *values: Any) -> tuple[Any, Any]:
            loss, extra, gradients = made["code"](list(values), leaves)
            context.gradients = gradients
            context.mark_non_differentiable(extra)
            return loss, extra

        @staticmethod
        def backward(context: Any, outer: Any, _: Any) -> tuple[Any, ...]:
            own = [None if each is None else outer * each for each in context.gradients]
            return (None, *own, *[None] * len(others))

    def call(*arguments: Any) -> tuple[Any, Any]:
        leaves = keras.tree.flatten(arguments)
        shapes = [None if each is None else tuple(each.shape) for each in leaves]
        if not made:
            made["shapes"] = shapes
            made["code"] = _compiled(function, trained, others, products, arguments)
        if shapes != made["shapes"]:
            return function(*arguments)
        return Known.apply(leaves, *[variable.value for variable in (*trained, *others)])

    return call


def _compiled(
    function: Callable[..., tuple[Any, Any]],
    trained: Sequence[keras.Variable],
    others: Sequence[keras.Variable],
    products: str,
    arguments: tuple[Any, ...],
) -> Callable[[list[Any], list[Any]], tuple[Any, Any, list[Any]]]:
    """The loss, what is kept beside it, and gradients, of variables' values and the arguments.

    The gradient is part of what is traced. Were it taken of the traced loss, what a loss has of
    gradients of its own would count as constant.
    """
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    variables = (*trained, *others)

    def pure(values: list[Any], leaves: list[Any]) -> tuple[Any, Any, list[Any]]:
        own = [value.detach().requires_grad_() for value in values[: len(trained)]]
        state = list(zip(variables, (*own, *values[len(trained) :]), strict=True))
        rounded = torch.autocast(
            "cpu", torch.bfloat16, enabled=products == "bfloat16", cache_enabled=False
        )
        with torch.enable_grad(), keras.StatelessScope(state_mapping=state), rounded:
            loss, extra = function(*keras.tree.pack_sequence_as(arguments, leaves))
        return loss, extra, list(torch.autograd.grad(loss, own, allow_unused=True))

    values = [variable.value.detach() for variable in variables]
    with torch.no_grad():
        graph = make_fx(pure)(values, keras.tree.flatten(arguments))
        return torch.compile(graph, dynamic=False)
