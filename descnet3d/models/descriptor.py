"""The 3D DescriptorNet: an energy-based model of shapes, trained by maximum likelihood."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from descnet3d.energy import backend
from descnet3d.energy.chains import PersistentChains
from descnet3d.energy.sampling import LangevinSampler
from descnet3d.energy.settings import EquilibriumMatching, LangevinSettings, MaximumLikelihood
from descnet3d.energy.tasks import Condition, Recovery, condition_of
from descnet3d.models import networks
from descnet3d.models.energy_based import EnergyBasedModel
from descnet3d.models.features import PooledResponses
from descnet3d.models.learning import EnergyLearning, default_objectives
from descnet3d.models.one_network import OfOneNetwork
from descnet3d.models.spectral import spectral


@keras.saving.register_keras_serializable("descnet3d")
class DescriptorNet(OfOneNetwork, EnergyBasedModel):
    """An energy-based model of shapes, p(Y; θ) ∝ exp(f(Y; θ)) p₀(Y), with p₀ = N(0, s²) (eq. 1).

    Occupancy comes in and goes out. Inside, in model space, Y is the occupancy minus `voxel_mean`,
    with a channel axis.

    Args:
        network: f(Y; θ), a Keras model that maps `[n, D, H, W, 1]` to `[n, 1]` or `[n]`, with
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
    sampling_settings = LangevinSettings
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
        self._score = spectral(network)
        self.reference_std = float(reference_std)
        self.noise_level = keras.Variable(0.0, trainable=False, dtype="float32", name="noise_level")
        self.sampling = sampling or LangevinSettings(initial_std=self.reference_std)
        self.sampling_noise = keras.random.SeedGenerator(seed)
        self.sampler = LangevinSampler(self.energy_of, grid, self.sampling_noise)
        self._compiled_energy = backend.compiled(self.energy_of, differentiable=True)
        self._pooled = PooledResponses(network)

    def score_of(self, positions: Any) -> Any:
        """f(Y; θ), `[n]`, of positions `[n, D, H, W, 1]` in model space."""
        return _numbers(self._score(positions, training=False))

    def reference_energy_of(self, positions: Any) -> Any:
        """‖Y‖²/2s², `[n]`: the energy of the Gaussian reference (eq. 1)."""
        return ops.sum(ops.square(positions), axis=(1, 2, 3, 4)) / (2 * self.reference_std**2)

    def energy_of(self, positions: Any) -> Any:
        """E(Y) = ‖Y‖²/2s² - f(Y), `[n]`, of positions in model space (eqs. 1 and 5)."""
        return self.reference_energy_of(positions) - self.score_of(positions)

    def call(self, occupancy: Any) -> Any:
        """The energy of occupancy `[n, D, H, W]`, as a tensor `[n]`.

        It is what `export` writes, and so of the network as it is.
        """
        positions = self.to_model_space(occupancy)
        score = _numbers(self.network(positions, training=False))
        return self.reference_energy_of(positions) - score

    def compile(
        self,
        optimizer: Any = None,
        *,
        likelihood: MaximumLikelihood | None = None,
        matching: EquilibriumMatching | None = None,
        task: Condition | None = None,
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
            task = task or condition_of(self.preset.get("recipe") or {})
        if optimizer is None:
            kept = {"use_ema": True, "ema_momentum": 0.99, "global_clipnorm": 10.0}
            optimizer = keras.optimizers.Adam(1e-4, beta_1=0.5, **(kept if self.preset else {}))
        self.learning = EnergyLearning(self, likelihood, matching, task)
        self.likelihood, self.matching, self.task = likelihood, matching, task
        self.corruption = task.corruption if isinstance(task, Recovery) else None
        self.noise_level.assign(self.learning.temperature(0))
        self.trackers, self.test_trackers = self.learning.trackers()
        super().compile(optimizer, **keras_arguments)

    @property
    def objectives(self) -> dict[str, Any]:
        """What the energy learns by."""
        return {"likelihood": self.likelihood, "matching": self.matching, "task": self.task}

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
        return self._track(measured, observed)

    def test_step(self, data: Any) -> dict[str, Any]:
        """The mean energy of held-out shapes and, in pretraining, their matching loss."""
        observed, constraint = self.learning.observed(data)
        measured = self.learning.held_out(observed, constraint)
        means = {name: ops.mean(values) for name, values in measured.items()}
        return self._track(means, observed, self.test_trackers)


def _numbers(score: Any) -> Any:
    """One number a shape, `[n]`, of what a network gives."""
    return ops.cast(ops.reshape(score, (-1,)), "float32")
