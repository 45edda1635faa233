"""The 3D DescriptorNet: an energy-based model of shapes, trained by maximum likelihood."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from descnet3d.arguments import require_positive_integer
from descnet3d.energy import backend
from descnet3d.energy.chains import PersistentChains
from descnet3d.energy.conditions import Recovery, Task, task_of
from descnet3d.energy.constraints import BlockMeans, VisibleVoxels
from descnet3d.energy.langevin import LangevinSettings
from descnet3d.energy.objectives import EquilibriumMatching, MaximumLikelihood
from descnet3d.energy.sampling import LangevinSampler
from descnet3d.models import networks
from descnet3d.models.features import PooledResponses, Pooling
from descnet3d.models.learning import EnergyLearning, default_objectives
from descnet3d.models.shape_model import ShapeModel
from descnet3d.shapes import blocks
from descnet3d.shapes.occupancy import as_occupancy, as_visible


@keras.saving.register_keras_serializable("descnet3d")
class DescriptorNet(ShapeModel):
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

    Attributes:
        sampler: what runs the Langevin dynamics that users ask for.

    Raises:
        ValueError: when the network's inputs or outputs have another shape.
    """

    preset_class = "DescriptorNet"
    chain_starts: tuple[str, ...] = ("persistent", "noise", "data")

    def __init__(
        self,
        network: keras.Model,
        *,
        voxel_mean: float = 0.0,
        reference_std: float = 0.5,
        sampling: LangevinSettings | None = None,
        seed: int = 0,
    ) -> None:
        grid = networks.grid_of_score(network)
        if not (math.isfinite(reference_std) and reference_std > 0):
            raise ValueError(f"reference_std must be positive, but it is {reference_std!r}.")
        super().__init__(grid=grid, voxel_mean=float(voxel_mean), seed=seed, name="descriptor_net")
        self.network = network
        self.reference_std = float(reference_std)
        self.noise_level = keras.Variable(0.0, trainable=False, dtype="float32", name="noise_level")
        self.sampling = sampling or LangevinSettings(initial_std=self.reference_std)
        self.sampling_noise = keras.random.SeedGenerator(seed)
        self.sampler = LangevinSampler(self.energy_of, grid, self.sampling_noise)
        self._compiled_energy = backend.compiled(self.energy_of)
        self._pooled = PooledResponses(network)

    def score_of(self, positions: Any) -> Any:
        """f(Y; θ), ``[n]``, of positions ``[n, D, H, W, 1]`` in model space."""
        score = self.network(positions, training=False)
        return ops.cast(ops.reshape(score, (-1,)), "float32")

    def reference_energy_of(self, positions: Any) -> Any:
        """‖Y‖²/2s², ``[n]``: the energy of the Gaussian reference (eq. 1)."""
        return ops.sum(ops.square(positions), axis=(1, 2, 3, 4)) / (2 * self.reference_std**2)

    def energy_of(self, positions: Any) -> Any:
        """E(Y) = ‖Y‖²/2s² - f(Y), ``[n]``, of positions in model space (eqs. 1 and 5)."""
        return self.reference_energy_of(positions) - self.score_of(positions)

    def to_occupancy(self, positions: Any) -> np.ndarray:
        """Positions as occupancy in [0, 1], a float32 array ``[n, D, H, W]``."""
        occupancy = ops.convert_to_numpy(positions)[..., 0] + self.voxel_mean
        return np.clip(occupancy, 0.0, 1.0).astype(np.float32)

    def call(self, occupancy: Any) -> Any:
        """The energy of occupancy ``[n, D, H, W]``, as a tensor ``[n]``."""
        return self.energy_of(self.to_model_space(occupancy))

    @property
    def parts(self) -> dict[str, keras.Model]:
        """The networks that the model is made of, by the names that its preset gives them."""
        return {"network": self.network}

    @property
    def settings(self) -> dict[str, Any]:
        """What a preset's config says of the model, beside its networks."""
        return {
            "voxel_mean": self.voxel_mean,
            "reference_std": self.reference_std,
            "sampling": asdict(self.sampling),
        }

    @classmethod
    def of_parts(cls, parts: Mapping[str, keras.Model], settings: Mapping[str, Any]) -> Self:
        """The model of this network and these settings."""
        return cls(
            parts["network"],
            voxel_mean=settings["voxel_mean"],
            reference_std=settings["reference_std"],
            sampling=LangevinSettings(**settings["sampling"]),
            seed=settings.get("seed", 0),
        )

    def compile(
        self,
        optimizer: Any = None,
        *,
        likelihood: MaximumLikelihood | None = None,
        matching: EquilibriumMatching | None = None,
        task: Task | None = None,
        **keras_arguments: Any,
    ) -> None:
        """Choose the objective and the optimizer.

        Args:
            optimizer: a Keras optimizer. With `gradient_accumulation_steps` set to the number of
                batches it takes one step a pass over the data, as the original code does. None
                stands for Adam(1e-4, β₁ = 0.5), with averaged weights and clipped gradients where
                a preset is fine-tuned.
            likelihood: maximum likelihood by Langevin dynamics; the default of a new model.
            matching: simulation-free pretraining, alone or beside `likelihood`; the default where a
                preset that was trained so is fine-tuned.
            task: recovery or super-resolution; None for synthesis, or for what a loaded preset was
                trained for where no objective is given either.
            keras_arguments: passed on to `keras.Model.compile`.
        """
        if likelihood is None and matching is None:
            likelihood, matching = default_objectives(self.preset)
            task = task or task_of(self.preset.get("recipe") or {})
        if optimizer is None:
            kept = {"use_ema": True, "ema_momentum": 0.99, "global_clipnorm": 10.0}
            optimizer = keras.optimizers.Adam(1e-4, beta_1=0.5, **(kept if self.preset else {}))
        self.learning = EnergyLearning(self, likelihood, matching, task)
        self.likelihood, self.matching, self.task = likelihood, matching, task
        self.corruption = task.corruption if isinstance(task, Recovery) else None
        self.noise_level.assign(self.learning.temperature(0))
        self.trackers, self.test_trackers = self.learning.trackers()
        super().compile(optimizer=optimizer, **keras_arguments)
        self.optimizer.build(self.trainable_variables)

    @property
    def chains(self) -> PersistentChains | None:
        """The chains that persist between iterations, if any."""
        return self.learning.chains

    @property
    def state_groups(self) -> dict[str, Sequence[keras.Variable]]:
        """The variables that a resumed run needs, in groups by name."""
        return {**super().state_groups, "chains": self.chains.variables if self.chains else []}

    def begin_epoch(self, epoch: int) -> None:
        """Set the Langevin noise of an epoch."""
        self.noise_level.assign(self.learning.temperature(epoch))

    def train_step(self, data: Any) -> dict[str, Any]:
        """One iteration: mode seeking from the chains, then mode shifting by the optimizer."""
        observed, constraint = self.learning.observed(data)
        synthesized: Any = None
        measured: dict[str, Any] = {}
        if self.likelihood is not None:
            synthesized, measured = self.learning.run_chains(observed, constraint)
        measured |= self.learning.shift_modes(observed, synthesized, constraint)
        return self._update_trackers(measured)

    def test_step(self, data: Any) -> dict[str, Any]:
        """The mean energy of held-out shapes and, in pretraining, their matching loss."""
        observed, constraint = self.learning.observed(data)
        measured = self.learning.held_out(observed, constraint)
        count = ops.shape(observed)[0]
        for name, tracker in self.test_trackers.items():
            mean = ops.stop_gradient(ops.mean(measured[name]))
            tracker.update_state(mean, sample_weight=ops.cast(count, "float32"))
        return {name: tracker.result() for name, tracker in self.test_trackers.items()}

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
            regions: as of :class:`~descnet3d.models.features.Pooling`.
            contractions: likewise.

        Returns:
            A float32 array ``[n, d]``, in the network's order: for each layer whose responses lie
            in space (convolutions, responses of patches) the mean and the maximum of each filter's
            in each region, and the responses of the other dense layers.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid, there is no such
                layer, or regions don't fill a layer's grid.
        """
        require_positive_integer("regions", regions)
        pooling = Pooling(None if layers is None else tuple(layers), regions, tuple(contractions))
        return self._in_batches(self._pooled.by(pooling), shapes, batch_size)

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
        positions = self.sampler.sample(num, self.sampling, seed, num_steps, batch_size, progress)
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
            ValueError: when the shapes don't fit the model's grid; or as in `synthesize`.
            DivergenceError: when the dynamics run off.
        """
        shapes = as_occupancy(shapes, "shapes", self.grid)
        initial = ops.convert_to_numpy(self.to_model_space(shapes))
        positions = self.sampler.sample(
            len(shapes),
            self._revision,
            seed,
            num_steps,
            batch_size,
            progress,
            initial=initial,
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
        positions = self.sampler.sample(
            len(shapes), self.sampling, seed, num_steps, batch_size, progress, constraint
        )
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
        blocks.require_whole(shapes.shape[1:], self.grid)
        constraint = BlockMeans(ops.convert_to_numpy(self.to_model_space(shapes)))
        positions = self.sampler.sample(
            len(shapes), self.sampling, seed, num_steps, batch_size, progress, constraint
        )
        occupancy = ops.convert_to_numpy(positions)[..., 0] + self.voxel_mean
        return blocks.with_means(occupancy, shapes)

    @property
    def _revision(self) -> LangevinSettings:
        """How given shapes are revised."""
        return self.sampling
