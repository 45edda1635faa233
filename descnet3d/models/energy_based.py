"""What every energy-based model of shapes shares: how Keras trains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from descnet3d.energy import backend
from descnet3d.energy.chains import PersistentChains
from descnet3d.energy.conditions import Recovery, Task, task_of
from descnet3d.energy.constraints import Constraint
from descnet3d.energy.langevin import LangevinSettings, langevin_dynamics
from descnet3d.energy.objectives import EquilibriumMatching, MaximumLikelihood
from descnet3d.models.fitting import Maximum
from descnet3d.models.shape_model import ShapeModel


class EnergyBasedModel(ShapeModel):
    """A model that learns E(Y) = ‖Y‖²/2s² - f(Y), by maximum likelihood, matching, or both.

    What the score is, is a subclass's to say.

    Args:
        network: f, with the score as its output.
        grid: the grid ``(D, H, W)``.
        reference_std: s.
        voxel_mean: what model space subtracts from occupancy.
        seed: seeds the noise of training.
        name: the model's name.

    Attributes:
        score_of: maps positions ``[n, D, H, W, 1]`` to f(Y), ``[n]``; the subclass defines it.
        preset: the metadata of the preset that the model was loaded from, if any.
    """

    chain_starts: tuple[str, ...] = ("persistent", "noise", "data")
    score_of: Callable[[Any], Any]

    def __init__(
        self,
        network: keras.Model,
        *,
        grid: tuple[int, int, int],
        reference_std: float,
        voxel_mean: float,
        seed: int,
        name: str,
    ) -> None:
        super().__init__(
            grid=grid, reference_std=reference_std, voxel_mean=voxel_mean, seed=seed, name=name
        )
        self.network = network
        self.preset: dict[str, Any] = {}
        self.sampling_noise = keras.random.SeedGenerator(seed)
        self.noise_level = keras.Variable(0.0, trainable=False, dtype="float32", name="noise_level")
        self.built = True

    def reference_energy_of(self, positions: Any) -> Any:
        """‖Y‖²/2s², ``[n]``: the energy of the Gaussian reference (eq. 1)."""
        return ops.sum(ops.square(positions), axis=(1, 2, 3, 4)) / (2 * self.reference_std**2)

    def energy_of(self, positions: Any) -> Any:
        """E(Y) = ‖Y‖²/2s² - f(Y), ``[n]``, of positions in model space (eqs. 1 and 5)."""
        return self.reference_energy_of(positions) - self.score_of(positions)

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
            likelihood, matching = self._default_objective()
            task = task or self._default_task()
        if optimizer is None:
            kept = {"use_ema": True, "ema_momentum": 0.99, "global_clipnorm": 10.0}
            optimizer = keras.optimizers.Adam(1e-4, beta_1=0.5, **(kept if self.preset else {}))
        if likelihood is not None and likelihood.chains.start not in self.chain_starts:
            raise ValueError(
                f"likelihood.chains of a {type(self).__name__} must start at one of "
                f"{', '.join(self.chain_starts)}, but they start at {likelihood.chains.start!r}; "
                "a CooperativeNet's start at its generator."
            )
        self.likelihood, self.matching, self.task = likelihood, matching, task
        self.corruption = task.corruption if isinstance(task, Recovery) else None
        self.chains: PersistentChains | None = None
        names = ["matching_loss"] if matching else []
        if likelihood is not None:
            names += ["value", "score_observed", "score_synthesized", "gradient_norm"]
            names += ["reconstruction_error", "chain_range"]
            if likelihood.chains.start == "persistent" and task is None:
                initial_std = likelihood.langevin.initial_std
                self.chains = PersistentChains(likelihood.chains, self.grid, self.seed, initial_std)
        if likelihood is not None:
            self.noise_level.assign(likelihood.langevin.temperature)
        self.trackers = {
            name: Maximum(name=name) if name == "chain_range" else keras.metrics.Mean(name=name)
            for name in names
        }
        self.test_trackers = {
            name: keras.metrics.Mean(name=name)
            for name in ["energy", *(["matching_loss"] if matching else [])]
        }
        super().compile(optimizer=optimizer, **keras_arguments)
        self.optimizer.build(self.trainable_variables)

    @property
    def state_groups(self) -> dict[str, Sequence[keras.Variable]]:
        """The variables that a resumed run needs, in groups by name."""
        return {
            "network": self.network.variables,
            **super().state_groups,
            "chains": self.chains.variables if self.chains else [],
        }

    def begin_epoch(self, epoch: int) -> None:
        """Set the Langevin noise of an epoch."""
        if self.likelihood is not None:
            limit = self.likelihood.noise_until_epoch
            noisy = limit is None or epoch < limit
            self.noise_level.assign(self.likelihood.langevin.temperature if noisy else 0.0)

    def begin_fit(self) -> None:
        """Forget the figures of the preset that this model came from: they are not its own now."""
        for key in set(self.preset) - {"task", "category", "recipe"}:
            del self.preset[key]

    def train_step(self, data: Any) -> dict[str, Any]:
        """One iteration: mode seeking from the chains, then mode shifting by the optimizer."""
        observed, constraint = self._observed(data)
        synthesized: Any = None
        measured: dict[str, Any] = {}
        if self.likelihood is not None:
            synthesized, measured = self._run_chains(self.likelihood, observed, constraint)
        measured |= self._shift_modes(observed, synthesized, constraint)
        return self._update_trackers(measured)

    def test_step(self, data: Any) -> dict[str, Any]:
        """The mean energy of held-out shapes and, in pretraining, their matching loss."""
        observed, constraint = self._observed(data)
        measured = {"energy": self.energy_of(observed)}
        if self.matching is not None:
            measured["matching_loss"] = self.matching.loss(
                self.energy_of, observed, self.reference_std, self.sampling_noise, constraint
            )
        count = ops.shape(observed)[0]
        for name, tracker in self.test_trackers.items():
            mean = ops.stop_gradient(ops.mean(measured[name]))
            tracker.update_state(mean, sample_weight=ops.cast(count, "float32"))
        return {name: tracker.result() for name, tracker in self.test_trackers.items()}

    def _observed(self, data: Any) -> tuple[Any, Constraint | None]:
        """The shapes of a batch, in model space, and what the task holds of them."""
        occupancy, visible = keras.utils.unpack_x_y_sample_weight(data)[0], None
        if isinstance(occupancy, dict):
            occupancy, visible = occupancy["occupancy"], occupancy.get("visible")
        observed = self.observed_of(occupancy)
        constraint = self.task.constraint(observed, visible) if self.task is not None else None
        return observed, constraint

    def _default_objective(self) -> tuple[MaximumLikelihood | None, EquilibriumMatching | None]:
        recipe = self.preset.get("recipe") or {}
        matched = recipe.get("matching_steps", 1) or recipe.get("likelihood_matching_weight", 0)
        if self.preset and matched:
            settings = {
                name: recipe[f"matching_{name}"]
                for name in ("scale", "fade_from", "least_noise")
                if f"matching_{name}" in recipe
            }
            return None, EquilibriumMatching(**settings)
        return MaximumLikelihood(), None

    def _default_task(self) -> Task | None:
        return task_of(self.preset.get("recipe") or {})

    def _run_chains(
        self, likelihood: MaximumLikelihood, observed: Any, constraint: Constraint | None
    ) -> tuple[Any, dict[str, Any]]:
        """Mode seeking from where this iteration's chains start."""
        settings, chains, indices = likelihood.langevin, likelihood.chains, None
        if self.chains is not None:
            indices, initial = self.chains.take(self.training_noise)
        elif constraint is not None:
            noise = keras.random.normal(ops.shape(observed), seed=self.training_noise)
            initial = constraint.project(settings.initial_std * noise)
        elif chains.start == "noise":
            shape = (chains.per_step, *self.grid, 1)
            initial = settings.initial_std * keras.random.normal(shape, seed=self.training_noise)
        else:
            initial = observed
        synthesized, measured = self._seek_modes(settings, initial, observed, constraint)
        if self.chains is not None:
            self.chains.put(indices, synthesized)
        return synthesized, measured

    def _seek_modes(
        self,
        settings: LangevinSettings,
        initial: Any,
        observed: Any,
        constraint: Constraint | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """What l Langevin steps make of positions, and what is measured on the way."""
        synthesized, diagnostics = langevin_dynamics(
            self.energy_of,
            initial,
            num_steps=settings.num_steps,
            step_size=settings.step_size,
            temperature=self.noise_level * 1.0 if settings.temperature else 0,
            seed_generator=self.training_noise,
            projection=constraint.project if constraint is not None else None,
        )
        difference = ops.mean(synthesized, axis=0) - ops.mean(observed, axis=0)
        return synthesized, {
            "gradient_norm": ops.mean(diagnostics.gradient_norm),
            "reconstruction_error": ops.mean(ops.square(difference)),
            "chain_range": ops.max(ops.abs(synthesized)),
        }

    def _shift_modes(
        self, observed: Any, synthesized: Any | None, constraint: Constraint | None = None
    ) -> dict[str, Any]:
        """The ascent on mean f(Y) - mean f(Ỹ) (eq. 4), the matching loss, or both; one step."""
        likelihood, matching = self.likelihood, self.matching

        def objective() -> tuple[Any, dict[str, Any]]:
            loss, parts = ops.convert_to_tensor(0.0), {}
            if likelihood is not None:
                observed_score = ops.mean(self.score_of(observed))
                synthesized_score = ops.mean(self.score_of(synthesized))
                loss += likelihood.weight * (synthesized_score - observed_score)
                parts = {"score_observed": observed_score, "score_synthesized": synthesized_score}
            if matching is not None:
                parts["matching_loss"] = matching.loss(
                    self.energy_of, observed, self.reference_std, self.training_noise, constraint
                )
                loss += matching.weight * parts["matching_loss"]
            for penalty in self.network.losses:
                loss += penalty
            return loss, {name: ops.stop_gradient(part) for name, part in parts.items()}

        measured, gradients = backend.gradients(objective, self.trainable_variables)
        backend.apply_gradients(self.optimizer, gradients, self.trainable_variables)
        if likelihood is not None:
            reference = ops.mean(self.reference_energy_of(synthesized)) - ops.mean(
                self.reference_energy_of(observed)
            )
            score_gap = measured["score_synthesized"] - measured["score_observed"]
            measured["value"] = reference - score_gap
        return measured
