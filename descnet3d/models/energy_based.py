"""The methods of every energy-based model of shapes: occupancy in, occupancy out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from descnet3d.arguments import require_positive_integer
from descnet3d.energy.composition import Category
from descnet3d.energy.constraints import BlockMeans, Constraint, VisibleVoxels
from descnet3d.models.features import PooledResponses, Pooling, widest_layers
from descnet3d.models.shape_model import ShapeModel
from descnet3d.shapes import blocks
from descnet3d.shapes.occupancy import as_occupancy, as_visible


class EnergyBasedModel(ShapeModel):
    """A model with an energy E(Y), whose shapes a sampler finds by descending it.

    Attributes:
        sampling: the settings of the sampler, which `synthesize` takes unless told otherwise.
        sampler: what runs the dynamics; its `sample` takes them.
    """

    sampling: Any
    sampler: Any
    _compiled_energy: Any
    _pooled: PooledResponses

    def _told(self, category: Category | None, num: int, known: bool = False) -> dict[str, Any]:
        """What the sampler is told of the shapes, beside how to find them.

        Args:
            category: what the user asks for.
            num: how many shapes.
            known: whether something is known of each shape.

        Raises:
            ValueError: when the model knows no such category.
        """
        if category is not None:
            raise ValueError(
                f"category is for models of several categories, but it is {category!r}."
            )
        return {}

    def to_occupancy(self, positions: Any) -> np.ndarray:
        """Positions as occupancy in [0, 1], a float32 array `[n, D, H, W]`."""
        occupancy = ops.convert_to_numpy(positions)[..., 0] + self.voxel_mean
        return np.clip(occupancy, 0.0, 1.0).astype(np.float32)

    def energy(self, shapes: Any, batch_size: int = 32) -> np.ndarray:
        """E(Y; θ) of each shape, up to the constant log Z: the lower, the likelier.

        Args:
            shapes: occupancy in [0, 1], `[n, D, H, W]`.
            batch_size: shapes at a time.

        Returns:
            A float32 array `[n]`.

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
            shapes: occupancy in [0, 1], `[n, D, H, W]`.
            batch_size: shapes at a time.
            layers: the names of the layers; None for all convolutions and dense layers.
            regions: as of `Pooling`.
            contractions: likewise.

        Returns:
            A float32 array `[n, d]`, in the network's order: for each layer whose responses lie
            in space (convolutions, responses of patches) the mean and the maximum of each filter's
            in each region, and the responses of the other dense layers.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid, there is no such
                layer, or regions don't fill a layer's grid.
        """
        require_positive_integer("regions", regions)
        pooling = Pooling(None if layers is None else tuple(layers), regions, tuple(contractions))
        return self._in_batches(self._pooled.by(pooling), shapes, batch_size)

    @property
    def pooling(self) -> Pooling:
        """Which responses a `FeatureClassifier` takes where nothing is said: the widest layer's."""
        return Pooling(widest_layers(self.network)[:1])

    def __getattr__(self, name: str) -> Any:
        """Says of what needs latents where a model that has them comes from."""
        if name in ("generate", "encode", "interpolate", "arithmetic"):
            raise AttributeError(
                f"a {type(self).__name__} has no latents, no generator and no {name}: load a "
                'preset that has, as descnet3d.load("chair") or load("chair", task="cooperative"), '
                "or synthesize."
            )
        of_torch = getattr(super(), "__getattr__", None)  # whose modules keep parameters so
        if of_torch is not None:
            return of_torch(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def synthesize(
        self,
        num: int,
        *,
        category: Category | None = None,
        seed: int | None = None,
        num_steps: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> np.ndarray:
        """New shapes, by Langevin dynamics from fresh noise.

        Args:
            num: how many.
            category: of which category, where the model knows several.
            seed: the same seed gives the same shapes on the same backend and machine (elsewhere,
                rounding moves single voxels); None gives new ones.
            num_steps: Langevin steps, instead of the model's own `sampling.num_steps`.
            batch_size: shapes at a time; another size gives other shapes.
            progress: whether to show a progress bar with the time left.

        Returns:
            Occupancy in [0, 1], float32 `[num, D, H, W]`.

        Raises:
            ValueError: when `num`, `num_steps`, `seed` or `batch_size` is out of range.
            DivergenceError: when the dynamics run off.
        """
        require_positive_integer("num", num)
        how = seed, num_steps, batch_size, progress
        positions = self.sampler.sample(num, self.sampling, *how, **self._told(category, num))
        return self.to_occupancy(positions)

    def revise(
        self,
        shapes: Any,
        *,
        category: Category | None = None,
        seed: int | None = None,
        num_steps: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> np.ndarray:
        """Given shapes, moved towards the modes near them by Langevin dynamics.

        It starts from the shapes contracted towards grey (`sampling.contraction`), or, where the
        energy is one at every noise level, noised to `sampling.revision_level`, so that their
        details are decided anew.

        Args:
            shapes: occupancy in [0, 1], `[n, D, H, W]`.
            category: as in `synthesize`.
            seed: as in `synthesize`; what it changes is the noise, of which there is none at a
                temperature of 0.
            num_steps: as in `synthesize`.
            batch_size: as in `synthesize`.
            progress: as in `synthesize`.

        Returns:
            Occupancy in [0, 1], float32 `[n, D, H, W]`.

        Raises:
            ValueError: when the shapes don't fit the model's grid; or as in `synthesize`.
            DivergenceError: when the dynamics run off.
        """
        shapes = as_occupancy(shapes, "shapes", self.grid)
        initial = ops.convert_to_numpy(self.to_model_space(shapes))
        how = seed, num_steps, batch_size, progress
        told = self._told(category, len(shapes), known=True)
        positions = self.sampler.sample(len(shapes), self._revision, *how, initial=initial, **told)
        return self.to_occupancy(positions)

    def recover(
        self,
        occupancy: Any,
        visible: Any,
        *,
        category: Category | None = None,
        num_samples: int | None = None,
        seed: int | None = None,
        num_steps: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> np.ndarray:
        """Shapes whose hidden voxels are filled in, by Langevin dynamics under a projection.

        After every step the visible voxels are put back: samples of p(Y_M | Y_visible), or, at a
        temperature of 0, a mode of it that no seed changes. Hidden voxels start from grey, or from
        noise where the energy is one at every noise level; a network that is told what is observed
        takes `sampling.reconstruction_steps`.

        Args:
            occupancy: corrupted shapes in [0, 1], `[n, D, H, W]`; what hidden voxels hold doesn't
                matter.
            visible: bool, of the same shape: True where a voxel is to be believed.
            category: as in `synthesize`.
            num_samples: how many wholes of each shape, samples of what it may have been; None for
                one, the best guess.
            seed: as in `synthesize`.
            num_steps: as in `synthesize`.
            batch_size: as in `synthesize`.
            progress: as in `synthesize`.

        Returns:
            Occupancy in [0, 1], float32 `[n, D, H, W]`, or `[n, num_samples, D, H, W]`; visible
            voxels come back untouched.

        Raises:
            ValueError: when `occupancy` isn't that on the model's grid, or `visible` not bool of
                its shape; or as in `synthesize`.
            DivergenceError: when the dynamics run off.
        """
        shapes = as_occupancy(occupancy, "occupancy", self.grid)
        visible = as_visible(visible, shapes.shape)
        shapes, visible = _repeated(num_samples, shapes, visible)
        values = ops.convert_to_numpy(self.to_model_space(np.where(visible, shapes, 0.0)))
        constraint = VisibleVoxels(values, visible[..., None])
        how = {"seed": seed, "num_steps": num_steps, "batch_size": batch_size, "progress": progress}
        positions = self._reconstructed(constraint, category, num_samples, how)
        return _apart(num_samples, np.where(visible, shapes, self.to_occupancy(positions)))

    def super_resolve(
        self,
        coarse: Any,
        *,
        category: Category | None = None,
        num_samples: int | None = None,
        seed: int | None = None,
        num_steps: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> np.ndarray:
        """Shapes on the model's grid whose block averages are the given coarse shapes.

        After every step each block is shifted back to its average: samples of p(Y_high | Y_low),
        or, at a temperature of 0, a mode of it that no seed changes. The dynamics start from the
        coarse shapes, or, as in `recover`, from noise.

        Args:
            coarse: block averages in [0, 1], `[n, d, h, w]`; the model's grid has to be the same
                multiple of each side.
            category: as in `synthesize`.
            num_samples: as in `recover`.
            seed: as in `synthesize`.
            num_steps: as in `synthesize`.
            batch_size: as in `synthesize`.
            progress: as in `synthesize`.

        Returns:
            Occupancy in [0, 1], float32 `[n, D, H, W]`, or `[n, num_samples, D, H, W]`, whose
            blocks have exactly (to float32 rounding) the given averages.

        Raises:
            ValueError: when `coarse` isn't occupancy, or its grid doesn't divide the model's; or as
                in `synthesize`.
            DivergenceError: when the dynamics run off.
        """
        shapes = as_occupancy(coarse, "coarse")
        blocks.require_whole(shapes.shape[1:], self.grid)
        [shapes] = _repeated(num_samples, shapes)
        constraint = BlockMeans(ops.convert_to_numpy(self.to_model_space(shapes)))
        how = {"seed": seed, "num_steps": num_steps, "batch_size": batch_size, "progress": progress}
        positions = self._reconstructed(constraint, category, num_samples, how)
        occupancy = ops.convert_to_numpy(positions)[..., 0] + self.voxel_mean
        return _apart(num_samples, blocks.with_means(occupancy, shapes))

    def _reconstructed(
        self,
        constraint: Constraint,
        category: Category | None,
        num_samples: int | None,
        how: Mapping[str, Any],
    ) -> np.ndarray:
        """Positions of shapes of which so much is known, `[n, D, H, W, 1]`.

        Args:
            constraint: what is known, with one row a shape.
            category: as in `synthesize`.
            num_samples: how many of the rows are of the same shape; None where one stands for all.
            how: seed, steps, batch size and progress, as the sampler takes them.
        """
        count = len(constraint[0])
        settings, told = self._reconstruction(
            constraint, self._told(category, count, known=True), num_samples is not None
        )
        return self.sampler.sample(count, settings, constraint=constraint, **how, **told)

    def _reconstruction(
        self, constraint: Constraint, told: dict[str, Any], sampled: bool
    ) -> tuple[Any, dict[str, Any]]:
        """How shapes are found of which so much is known, and what the sampler is told of them."""
        return self.sampling, told

    @property
    def _revision(self) -> Any:
        """How given shapes are revised."""
        return self.sampling


def _repeated(num_samples: int | None, *arrays: np.ndarray) -> list[np.ndarray]:
    """Each row so many times, one after the other."""
    if num_samples is None:
        return list(arrays)
    require_positive_integer("num_samples", num_samples)
    return [np.repeat(array, num_samples, axis=0) for array in arrays]


def _apart(num_samples: int | None, shapes: np.ndarray) -> np.ndarray:
    """Rows that `_repeated` made: `[n * k, D, H, W]` to `[n, k, D, H, W]`."""
    if num_samples is None:
        return shapes
    return shapes.reshape(-1, num_samples, *shapes.shape[1:])
