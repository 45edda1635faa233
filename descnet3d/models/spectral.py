"""Convolutions with wide kernels, computed exactly by their spectra where that is faster.

A convolution of stride s is one of stride 1 on blocks of s³ voxels, whose s³·c numbers are its
channels, with a kernel that is filled up with zeros and cut into blocks likewise: what the stride
leaves out is never computed. On a circle of m blocks an axis, so large that only zeros wrap around,
it is a product of small matrices at each frequency (the convolution theorem),

    ŷ(q) = x̂(q)·conj(ŵ(q)),    q in {0, …, m - 1}³,

and as numbers are real, half of the frequencies suffice. m is small and seldom a power of two, so
the discrete Fourier transforms are products with dense matrices, one axis after the other, ordered
such that no axis has to be moved between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from descnet3d.energy import backend

# How many times the multiplications of a spectral convolution a direct one must take: the spectral
# one passes more often through memory (docs/results/speed.md). And how many of the others a
# multiplication for the kernel's spectrum is worth.
_GAIN = 5.5
_KERNEL_BURDEN = 6.0


def spectral(network: keras.Model) -> Callable[..., Any]:
    """The function of a network, with the convolutions by their spectra for which that is faster.

    Args:
        network: f; its weights are those of the function.

    Returns:
        A function of what the network takes and of `training`; it gives what the network gives, to
        the rounding of float32. The network itself where nothing is gained, as on a GPU, or where
        it is no plain functional one.
    """
    plain = type(network) is type(keras.Model(network.inputs, network.outputs))
    wide = [layer for layer in network.layers if _is_plain(layer) and max(layer.kernel_size) > 3]
    if not (plain and wide and backend.on_cpu()):
        return network
    replaced = []

    def called(layer: keras.Layer, *arguments: Any, **more: Any) -> Any:
        plan = _faster_plan(layer, arguments[0].shape) if layer in wide else None
        if plan is None:
            return layer(*arguments, **more)
        replaced.append(layer)
        return _Spectral(layer, plan)(*arguments)

    faster = keras.models.clone_model(
        network, clone_function=lambda layer: layer, call_function=called
    )
    if not replaced:
        return network
    # As a function, so that a model that keeps it does not find the weights a second time.
    return lambda inputs, training=False: faster(inputs, training=training)


def _is_plain(layer: keras.Layer) -> bool:
    """Whether a layer is a convolution that does nothing else, in float32."""
    return (
        type(layer) is layers.Conv3D
        and layer.groups == 1
        and set(layer.dilation_rate) == {1}
        and layer.data_format == "channels_last"
        and layer.padding in ("same", "valid")
        and layer.compute_dtype == "float32"
        and layer.activity_regularizer is None
    )


def _faster_plan(convolution: layers.Conv3D, shape: tuple[int | None, ...]) -> _Plan | None:
    """The plan for responses of a shape, where that is known, and it is faster."""
    sides = [side for side in shape[1:4] if side is not None]
    plan = _Plan.of(convolution, sides) if len(sides) == 3 else None
    return plan if plan and plan.gain >= _GAIN else None


class _Axis(NamedTuple):
    """A convolution along one axis, on a circle of blocks.

    Attributes:
        size: how many numbers come in.
        kernel: how long the kernel is.
        stride: the side of a block.
        before: how many zeros are put before the numbers.
        out: how many numbers come out.
    """

    size: int
    kernel: int
    stride: int
    before: int
    out: int

    @classmethod
    def of(cls, size: int, kernel: int, stride: int, padding: str) -> _Axis:
        """The axis, with zeros around as Keras pads."""
        if padding == "valid":
            return cls(size, kernel, stride, 0, (size - kernel) // stride + 1)
        out = -(-size // stride)
        zeros = max((out - 1) * stride + kernel - size, 0)
        return cls(size, kernel, stride, zeros // 2, out)

    @property
    def blocks(self) -> int:
        """m, such that what the last place reads beyond the circle are zeros before the first."""
        read = (self.out - 1) * self.stride + self.kernel
        return -(-max(self.before + self.size, read - self.before) // self.stride)

    @property
    def kernel_blocks(self) -> int:
        """How many blocks the kernel is long."""
        return -(-self.kernel // self.stride)

    @property
    def half(self) -> int:
        """How many frequencies tell the spectrum of real numbers."""
        return self.blocks // 2 + 1

    def waves(self, places: int, frequencies: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The real and imaginary part of exp(-2πi·q·p/m), `[frequencies, places]`."""
        turns = np.outer(np.arange(frequencies or self.blocks), np.arange(places)) / self.blocks
        return np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns)


class _Plan(NamedTuple):
    """The three axes of a convolution, and its channels and filters."""

    axes: tuple[_Axis, _Axis, _Axis]
    channels: int
    filters: int

    @classmethod
    def of(cls, layer: layers.Conv3D, sides: Sequence[int]) -> _Plan:
        """That of a convolution of responses on a grid of these sides."""
        told = zip(sides, layer.kernel_size, layer.strides, strict=True)
        first, second, third = (_Axis.of(*each, layer.padding) for each in told)
        return cls((first, second, third), *layer.kernel.shape[3:])

    @property
    def block_channels(self) -> int:
        """The numbers of a block."""
        return self.channels * math.prod(axis.stride for axis in self.axes)

    @property
    def frequencies(self) -> int:
        """How many are computed."""
        first, second, third = self.axes
        return first.half * second.blocks * third.blocks

    def _to_spectrum(self, places: Sequence[int], numbers: int, parts: int) -> int:
        """The multiplications of a transform to the spectrum, of so many numbers a place.

        Args:
            places: of each axis.
            numbers: of each place.
            parts: how many numbers become of one at each frequency.
        """
        first, second, third = self.axes
        steps = (
            2 * first.half * places[0] * places[1] * places[2],
            first.half * 2 * second.blocks * 2 * places[1] * places[2],
            first.half * second.blocks * parts * third.blocks * 2 * places[2],
        )
        return sum(steps) * numbers

    @property
    def of_kernel(self) -> int:
        """The multiplications that find the kernel's spectrum, however many shapes there are."""
        places = [axis.kernel_blocks for axis in self.axes]
        return self._to_spectrum(places, self.block_channels * self.filters, 2)

    @property
    def of_shape(self) -> int:
        """The multiplications of one shape."""
        first, second, third = self.axes
        there = self._to_spectrum([axis.blocks for axis in self.axes], self.block_channels, 4)
        products = 4 * self.frequencies * self.block_channels * self.filters
        back = (
            first.half * second.blocks * 2 * third.out * 2 * third.blocks,
            first.half * 2 * second.out * 2 * second.blocks * third.out,
            first.out * 2 * first.half * second.out * third.out,
        )
        return there + products + sum(back) * self.filters

    @property
    def direct(self) -> int:
        """The multiplications of one shape by the direct convolution."""
        places = math.prod(axis.out * axis.kernel for axis in self.axes)
        return places * self.channels * self.filters

    @property
    def gain(self) -> float:
        """What many shapes gain."""
        return self.direct / self.of_shape

    @property
    def least(self) -> int:
        """From how many shapes on the spectral form is the faster."""
        return math.ceil(_KERNEL_BURDEN * self.of_kernel / (self.direct - self.of_shape))


class _Spectral(layers.Layer):
    """What a convolution does, by its spectrum.

    Args:
        convolution: whose weights these are.
        plan: how.
    """

    def __init__(self, convolution: layers.Conv3D, plan: _Plan) -> None:
        super().__init__(dtype=convolution.dtype_policy)
        self.convolution = convolution
        self.plan = plan
        self.built = True

    def call(self, responses: Any) -> Any:
        """The responses `[n, d, h, w, f]` to responses `[n, D, H, W, c]`."""
        if self.plan.least <= 1:
            return self._by_spectrum(responses)
        return ops.cond(
            ops.shape(responses)[0] >= self.plan.least,
            lambda: self._by_spectrum(responses),
            lambda: self.convolution(responses),
        )

    def _by_spectrum(self, responses: Any) -> Any:
        axes, held, frequencies = self.plan.axes, self.plan.block_channels, self.plan.frequencies
        (first, second, third), channels, filters = self.plan
        there = (1, first.half, first.half * second.blocks)

        around = [
            (axis.before, axis.blocks * axis.stride - axis.before - axis.size) for axis in axes
        ]
        blocks = _blocks(ops.pad(responses, [(0, 0), *around, (0, 0)]), axes)
        seen = _transformed(blocks, self._matrices["shapes"], there)
        # At each frequency, the parts of all shapes' numbers, and of these times -i.
        seen = ops.reshape(seen, (frequencies, 2, -1, held))

        after = [(0, axis.kernel_blocks * axis.stride - axis.kernel) for axis in axes]
        kernel = ops.pad(self.convolution.kernel, [*after, (0, 0), (0, 0)])
        kernel = ops.reshape(kernel, (1, *kernel.shape[:3], channels * filters))
        kernel = _transformed(_blocks(kernel, axes), self._matrices["kernel"], there)
        kernel = ops.reshape(kernel, (frequencies, 2, held, filters))

        drawn = ops.sum(ops.matmul(seen, kernel), axis=1)
        drawn = _transformed(drawn, self._matrices["back"], there[::-1])
        drawn = ops.reshape(drawn, (first.out * second.out * third.out, -1, filters))
        drawn = ops.transpose(drawn, (1, 0, 2))
        drawn = ops.reshape(drawn, (-1, first.out, second.out, third.out, filters))
        if self.convolution.use_bias:
            drawn = drawn + self.convolution.bias
        return self.convolution.activation(drawn)

    @cached_property
    def _matrices(self) -> dict[str, list[np.ndarray]]:
        """Of the transforms of each axis, in turn."""
        first, second, third = self.plan.axes
        shapes = [axis.blocks for axis in self.plan.axes]
        kernel = [axis.kernel_blocks for axis in self.plan.axes]
        return {
            "shapes": [
                _of_real(first, shapes[0]),
                _of_complex(second, shapes[1]),
                _of_complex(third, shapes[2], twice=True),
            ],
            "kernel": [
                _of_real(first, kernel[0]),
                _of_complex(second, kernel[1]),
                _of_complex(third, kernel[2]),
            ],
            "back": [_to_complex(third), _to_complex(second), _to_real(first)],
        }


def _blocks(numbers: Any, axes: Sequence[_Axis]) -> Any:
    """`[n, D, H, W, c]` as blocks `[D/s, H/s, W/s, n, s, s, s·c]`."""
    (a, b, c), sides = (axis.stride for axis in axes), numbers.shape[1:4]
    cut = (-1, sides[0] // a, a, sides[1] // b, b, sides[2] // c, c * numbers.shape[4])
    return ops.transpose(ops.reshape(numbers, cut), (1, 3, 5, 0, 2, 4, 6))


def _transformed(numbers: Any, matrices: Sequence[np.ndarray], groups: Sequence[int]) -> Any:
    """Transforms of one axis after the other.

    Args:
        numbers: whose axes follow each other.
        matrices: of each axis, in turn.
        groups: how many numbers lie before that axis.
    """
    for matrix, group in zip(matrices, groups, strict=True):
        numbers = ops.reshape(numbers, (group, matrix.shape[1], -1))
        numbers = ops.matmul(ops.convert_to_tensor(matrix), numbers)
    return numbers


# Matrices of transforms; parts are the real and the imaginary one.


def _of_real(axis: _Axis, places: int) -> np.ndarray:
    """From places to half of the frequencies, and of each the parts."""
    return _interleaved(axis.waves(places, axis.half))


def _of_complex(axis: _Axis, places: int, twice: bool = False) -> np.ndarray:
    """From parts, and of each the places, to frequencies, and of each the parts.

    Args:
        axis: which.
        places: how many.
        twice: whether beside the parts are those of the product with -i.
    """
    real, imaginary = axis.waves(places)
    parts = [np.hstack([real, -imaginary]), np.hstack([imaginary, real])]
    return _interleaved([*parts, parts[1], -parts[0]] if twice else parts)


def _to_complex(axis: _Axis) -> np.ndarray:
    """From frequencies, and of each the parts, to parts, and of each the places."""
    real, imaginary = axis.waves(axis.out)
    parts = _interleaved([real, imaginary]), _interleaved([-imaginary, real])
    return np.ascontiguousarray(np.hstack(parts).T / np.float32(axis.blocks))


def _to_real(axis: _Axis) -> np.ndarray:
    """From half of the frequencies, and of each the parts, to places."""
    real, imaginary = axis.waves(axis.out, axis.half)
    mirrored = np.arange(axis.half) * 2 % axis.blocks != 0  # by one that is not computed
    weights = np.where(mirrored, 2.0, 1.0)[:, None] / axis.blocks
    return np.ascontiguousarray(_interleaved([weights * real, weights * imaginary]).T)


def _interleaved(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of several matrices in turn."""
    rows = np.stack(parts, axis=1).reshape(-1, parts[0].shape[1])
    return np.ascontiguousarray(rows, dtype=np.float32)
