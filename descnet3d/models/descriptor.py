"""The 3D DescriptorNet: an energy-based model of shapes, trained by maximum likelihood."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from descnet3d.arguments import require_positive_integer, seed_of
from descnet3d.energy import backend
from descnet3d.energy.constraints import BlockMeans, Constraint, VisibleVoxels
from descnet3d.energy.langevin import LangevinSettings
from descnet3d.energy.objectives import MaximumLikelihood
from descnet3d.energy.sampling import LangevinSampler
from descnet3d.models import networks
from descnet3d.models.energy_based import EnergyBasedModel
from descnet3d.models.fitting import DivergenceError
from descnet3d.models.saved_model import SavedModel
from descnet3d.shapes import blocks
from descnet3d.shapes.occupancy import as_occupancy, as_visible

__all__ = ["DescriptorNet", "DivergenceError", "MaximumLikelihood"]


@keras.saving.register_keras_serializable("descnet3d")
class DescriptorNet(SavedModel, EnergyBasedModel):
    """An energy-based model of shapes, p(Y; θ) ∝ exp(f(Y; θ)) p₀(Y), with p₀ = N(0, s²) (eq. 1).

    Occupancy comes in and goes out. Inside, in model space, Y is the occupancy minus `voxel_mean`,
    with a channel axis.

    Args:
        network: f(Y; θ), a Keras model that maps ``[n, D, H, W, 1]`` to ``[n, 1]`` or ``[n]``, with
            a fixed grid.
        voxel_mean: what is subtracted from occupancy.
        reference_std: s, the standard deviation of the Gaussian reference.
        sampling: the Langevin dynamics that `synthesize` runs unless told otherwise.
        seed: seeds the noise of training.

    Raises:
        ValueError: when the network's inputs or outputs have another shape.
    """

    preset_class = "DescriptorNet"

    def __init__(
        self,
        network: keras.Model,
        *,
        voxel_mean: float = 0.0,
        reference_std: float = 0.5,
        sampling: LangevinSettings | None = None,
        seed: int = 0,
    ) -> None:
        shape = tuple(network.input_shape)
        if len(shape) != 5 or None in shape[1:] or shape[-1] != 1:
            raise ValueError(
                f"network must take [n, D, H, W, 1] with a fixed grid, but it takes {list(shape)}: "
                "build it on keras.Input((D, H, W, 1))."
            )
        if tuple(network.output_shape) not in ((None,), (None, 1)):
            raise ValueError(
                "network must give one score a shape, [n, 1] or [n], but it gives "
                f"{list(network.output_shape)}: end it with keras.layers.Dense(1)."
            )
        if not (math.isfinite(reference_std) and reference_std > 0):
            raise ValueError(f"reference_std must be positive, but it is {reference_std!r}.")
        super().__init__(
            network,
            grid=shape[1:4],
            reference_std=float(reference_std),
            voxel_mean=float(voxel_mean),
            seed=seed,
            name="descriptor_net",
        )
        self.sampling = sampling or LangevinSettings(initial_std=self.reference_std)
        self._compiled_energy = backend.compiled(self.energy_of)
        self.sampler = LangevinSampler(self.energy_of, self.sampling_noise)
        self._compiled_features: dict[Any, Any] = {}

    # --- The model ---------------------------------------------------------------------------

    def score_of(self, positions: Any) -> Any:
        """f(Y; θ), ``[n]``, of positions ``[n, D, H, W, 1]`` in model space."""
        score = self.network(positions, training=False)
        return ops.cast(ops.reshape(score, (-1,)), "float32")

    def to_occupancy(self, positions: Any) -> np.ndarray:
        """Positions as occupancy in [0, 1], a float32 array ``[n, D, H, W]``."""
        occupancy = ops.convert_to_numpy(positions)[..., 0] + self.voxel_mean
        return np.clip(occupancy, 0.0, 1.0).astype(np.float32)

    def call(self, occupancy: Any) -> Any:
        """The energy of occupancy ``[n, D, H, W]``, as a tensor ``[n]``."""
        return self.energy_of(self.to_model_space(occupancy))

    # --- What users ask of it ----------------------------------------------------------------

    def energy(self, shapes: Any, batch_size: int = 32) -> np.ndarray:
        """E(Y; θ) of each shape, up to the constant log Z: the lower, the likelier.

        Args:
            shapes: occupancy in [0, 1], ``[n, D, H, W]``.
            batch_size: shapes at a time.

        Returns:
            A float32 array ``[n]``.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid.
        """
        return self._in_batches(self._compiled_energy, shapes, batch_size)

    def features(
        self,
        shapes: Any,
        batch_size: int = 32,
        *,
        layers: Sequence[str] | None = None,
        regions: int = 1,
        contractions: Sequence[float] = (1.0,),
    ) -> np.ndarray:
        """What the network sees in each shape: its intermediate responses, pooled over space.

        Args:
            shapes: occupancy in [0, 1], ``[n, D, H, W]``.
            batch_size: shapes at a time.
            layers: the names of the layers; None for all convolutions and dense layers.
            regions: the grid is cut into so many regions along each axis, and pooled in each.
            contractions: what positions in model space are multiplied by before the network sees
                them; features are those of each, one after the other. Contracted shapes lie on the
                way from grey to the data, where a pretrained network has most to decide.

        Returns:
            A float32 array ``[n, d]``, in the network's order: for each layer whose responses lie
            in space (convolutions, responses of patches) the mean and the maximum of each filter's
            in each region, and the responses of the other dense layers.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid, there is no such
                layer, or regions don't fill a layer's grid.
        """
        require_positive_integer("regions", regions)
        key = (tuple(layers) if layers is not None else None, regions)
        if key not in self._compiled_features:
            intermediates = networks.intermediates(self.network, layers)
            names = [layer.name for layer in self.network.layers]
            # A dictionary's order is the backend's; the features' is the network's.
            order = [name for name in names if name in intermediates.output]
            for name in order:
                _require_regions(name, intermediates.output[name].shape, regions)

            def features(positions: Any) -> Any:
                responses = intermediates(positions)
                return _pooled([responses[name] for name in order], regions)

            self._compiled_features[key] = backend.compiled(features)
        found = self._compiled_features[key]

        def every(positions: Any) -> Any:
            return ops.concatenate([found(size * positions) for size in contractions], axis=1)

        return self._in_batches(every, shapes, batch_size)

    def synthesize(
        self,
        num: int,
        *,
        seed: int | None = None,
        num_steps: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> np.ndarray:
        """New shapes, by Langevin dynamics from fresh noise.

        Args:
            num: how many.
            seed: the same seed gives the same shapes on the same backend and machine (elsewhere,
                rounding moves single voxels); None gives new ones.
            num_steps: Langevin steps, instead of the model's own `sampling.num_steps`.
            batch_size: shapes at a time; another size gives other shapes.
            progress: whether to show a progress bar with the time left.

        Returns:
            Occupancy in [0, 1], float32 ``[num, D, H, W]``.

        Raises:
            ValueError: when `num`, `num_steps`, `seed` or `batch_size` is out of range.
            DivergenceError: when the dynamics run off.
        """
        require_positive_integer("num", num)
        positions = self._sample(num, None, seed, num_steps, batch_size, progress)
        return self.to_occupancy(positions)

    def revise(
        self,
        shapes: Any,
        *,
        seed: int | None = None,
        num_steps: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> np.ndarray:
        """Given shapes, moved towards the modes near them by Langevin dynamics.

        It starts from the shapes contracted towards grey (`sampling.contraction`), so that their
        details are decided anew.

        Args:
            shapes: occupancy in [0, 1], ``[n, D, H, W]``.
            seed: as in `synthesize`; what it changes is the noise, of which there is none at a
                temperature of 0.
            num_steps: as in `synthesize`.
            batch_size: as in `synthesize`.
            progress: as in `synthesize`.

        Returns:
            Occupancy in [0, 1], float32 ``[n, D, H, W]``.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid; or as in
                `synthesize`.
            DivergenceError: when the dynamics run off.
        """
        shapes = as_occupancy(shapes, "shapes", self.grid)
        initial = ops.convert_to_numpy(self.to_model_space(shapes))
        positions = self._sample(
            len(shapes), None, seed, num_steps, batch_size, progress, initial=initial
        )
        return self.to_occupancy(positions)

    def recover(
        self,
        occupancy: Any,
        visible: Any,
        *,
        seed: int | None = None,
        num_steps: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> np.ndarray:
        """Shapes whose hidden voxels are filled in, by Langevin dynamics under a projection.

        The hidden voxels start from grey, and after every step the visible ones are put back:
        samples of p(Y_M | Y_visible), or, at a temperature of 0, a mode of it that no seed changes.

        Args:
            occupancy: corrupted shapes in [0, 1], ``[n, D, H, W]``; what hidden voxels hold doesn't
                matter.
            visible: bool, of the same shape: True where a voxel is to be believed.
            seed: as in `synthesize`.
            num_steps: as in `synthesize`.
            batch_size: as in `synthesize`.
            progress: as in `synthesize`.

        Returns:
            Occupancy in [0, 1], float32 ``[n, D, H, W]``; visible voxels come back untouched.

        Raises:
            ValueError: when `occupancy` isn't that on the model's grid, or `visible` not bool of
                its shape; or as in `synthesize`.
            DivergenceError: when the dynamics run off.
        """
        shapes = as_occupancy(occupancy, "occupancy", self.grid)
        visible = as_visible(visible, shapes.shape)
        values = ops.convert_to_numpy(self.to_model_space(np.where(visible, shapes, 0.0)))
        constraint = VisibleVoxels(values, visible[..., None])
        positions = self._sample(len(shapes), constraint, seed, num_steps, batch_size, progress)
        return np.where(visible, shapes, self.to_occupancy(positions))

    def super_resolve(
        self,
        coarse: Any,
        *,
        seed: int | None = None,
        num_steps: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> np.ndarray:
        """Shapes on the model's grid whose block averages are the given coarse shapes.

        The dynamics start from the coarse shapes, and after every step each block is shifted back
        to its average: samples of p(Y_high | Y_low), or, at a temperature of 0, a mode of it that
        no seed changes.

        Args:
            coarse: block averages in [0, 1], ``[n, d, h, w]``; the model's grid has to be the same
                multiple of each side.
            seed: as in `synthesize`.
            num_steps: as in `synthesize`.
            batch_size: as in `synthesize`.
            progress: as in `synthesize`.

        Returns:
            Occupancy in [0, 1], float32 ``[n, D, H, W]``, whose blocks have exactly (to float32
            rounding) the given averages.

        Raises:
            ValueError: when `coarse` isn't occupancy, or its grid doesn't divide the model's; or as
                in `synthesize`.
            DivergenceError: when the dynamics run off.
        """
        shapes = as_occupancy(coarse, "coarse")
        ratios = {fine / side for fine, side in zip(self.grid, shapes.shape[1:], strict=True)}
        if len(ratios) > 1 or not ratios.pop().is_integer():
            raise ValueError(
                f"coarse must have grids of which the model's {list(self.grid)} is a whole "
                f"multiple, but they are {list(shapes.shape[1:])}: average blocks of the same "
                "number of voxels along each axis."
            )
        constraint = BlockMeans(ops.convert_to_numpy(self.to_model_space(shapes)))
        positions = self._sample(len(shapes), constraint, seed, num_steps, batch_size, progress)
        occupancy = ops.convert_to_numpy(positions)[..., 0] + self.voxel_mean
        return blocks.with_means(occupancy, shapes)

    def _sample(
        self,
        num: int,
        constraint: Constraint | None,
        seed: int | None,
        num_steps: int | None,
        batch_size: int,
        progress: bool,
        initial: np.ndarray | None = None,
    ) -> np.ndarray:
        """Positions ``[num, D, H, W, 1]`` by Langevin dynamics, from noise or given positions."""
        require_positive_integer("batch_size", batch_size)
        seed = seed_of(seed)
        settings = self.sampling if initial is None else self._revision
        if constraint is not None:
            # Noise would have to be found out first, and hides what is known of the shape.
            settings = replace(settings, initial_std=0.0)
        if num_steps is not None:
            require_positive_integer("num_steps", num_steps)
            settings = replace(settings, num_steps=int(num_steps))
        bar = _progress_bar(-(-num // batch_size) * settings.num_steps) if progress else None
        self.sampler.reseed(seed)
        parts = []
        for start in range(0, num, batch_size):
            part, rows = None, slice(start, start + batch_size)
            if constraint is not None:
                part = type(constraint)(*(ops.convert_to_tensor(held[rows]) for held in constraint))
            count = min(batch_size, num - start)
            given = None if initial is None else ops.convert_to_tensor(initial[rows])
            positions = self.sampler.sample(count, self.grid, settings, part, bar, given)
            parts.append(ops.convert_to_numpy(positions))
            if not np.isfinite(parts[-1]).all():
                raise DivergenceError(
                    "Langevin dynamics ran off to values that are not finite: take a sampling "
                    f"step_size smaller than {settings.step_size}."
                )
        return np.concatenate(parts)

    @property
    def parts(self) -> dict[str, keras.Model]:
        """The networks that the model is made of, by the names that its preset gives them."""
        return {"network": self.network}

    @property
    def _settings(self) -> dict[str, Any]:
        """What a preset's config says of the model, beside its networks."""
        return {
            "voxel_mean": self.voxel_mean,
            "reference_std": self.reference_std,
            "sampling": asdict(self.sampling),
        }

    @property
    def _revision(self) -> LangevinSettings:
        """How given shapes are revised."""
        return self.sampling

    @classmethod
    def _of_parts(
        cls, parts: Mapping[str, keras.Model], settings: Mapping[str, Any], seed: int = 0
    ) -> Self:
        return cls(
            parts["network"],
            voxel_mean=settings["voxel_mean"],
            reference_std=settings["reference_std"],
            sampling=LangevinSettings(**settings["sampling"]),
            seed=seed,
        )


def _grid_of(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """The grid of a layer's responses; that of patches ``[n, p, c]`` is a cube."""
    if len(shape) == 5:
        return shape[1], shape[2], shape[3]
    side = round(shape[1] ** (1 / 3))
    return (side, side, side) if len(shape) == 3 and side**3 == shape[1] else None


def _require_regions(name: str, shape: tuple[int, ...], regions: int) -> None:
    grid = _grid_of(shape) if len(shape) in (3, 5) else None
    if regions > 1 and len(shape) in (3, 5) and (not grid or any(side % regions for side in grid)):
        raise ValueError(
            f"regions must divide the grid of each layer, but {name} gives {list(shape)} and "
            f"regions is {regions}: name other layers, or take fewer regions."
        )


def _pooled(responses: list[Any], regions: int) -> Any:
    """Mean and maximum over each region of responses in space; other responses as they are."""
    parts = []
    for response in responses:
        if len(response.shape) not in (3, 5):
            parts.append(response)
            continue
        axes = tuple(range(1, len(response.shape) - 1))
        if regions > 1:
            channels = response.shape[-1]
            sides = [
                cells
                for side in _grid_of(response.shape) or ()
                for cells in (regions, side // regions)
            ]
            response = ops.reshape(response, (-1, *sides, channels))
            axes = (2, 4, 6)
        for pool in (ops.mean, ops.max):
            pooled = pool(response, axes)
            parts.append(ops.reshape(pooled, (-1, int(np.prod(pooled.shape[1:])))))
    return ops.concatenate(parts, axis=1)


def _progress_bar(steps: int) -> keras.utils.Progbar:
    return keras.utils.Progbar(steps, unit_name="step")
