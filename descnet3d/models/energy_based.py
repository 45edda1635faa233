"""What every energy-based model of shapes shares: how Keras trains it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from descnet3d import backend
from descnet3d.batches import VoxelBatches
from descnet3d.chains import PersistentChains
from descnet3d.constraints import Constraint
from descnet3d.fitting import DivergenceWatch, EpochSettings, Maximum, MaximumLikelihood
from descnet3d.langevin import langevin_dynamics
from descnet3d.models.pretraining import EquilibriumMatching
from descnet3d.tasks import Recovery, Task, task_of
from descnet3d.voxels import as_occupancy


class EnergyBasedModel(keras.Model):
    """A Keras model that learns E(Y) = ‖Y‖²/2s² - f(Y), by maximum likelihood, matching, or both.

    What the score is, and how shapes become positions, is a subclass's to say.

    Args:
        network: f, with the score as its output.
        grid: the grid ``(D, H, W)``.
        reference_std: s.
        seed: seeds the noise of training.
        name: the model's name.

    Attributes:
        score_of: maps positions ``[n, D, H, W, 1]`` to f(Y), ``[n]``; the subclass defines it.
        to_model_space: maps occupancy ``[n, D, H, W]`` to positions; the subclass defines it.
        preset: the metadata of the preset that the model was loaded from, if any.
    """

    score_of: Callable[[Any], Any]
    to_model_space: Callable[[Any], Any]

    def __init__(
        self,
        network: keras.Model,
        *,
        grid: tuple[int, int, int],
        reference_std: float,
        seed: int,
        name: str,
    ) -> None:
        super().__init__(name=name)
        self.network = network
        self.grid = grid
        self.reference_std = reference_std
        self.seed = seed
        self.preset: dict[str, Any] = {}
        self.training_noise = keras.random.SeedGenerator(seed)
        self.sampling_noise = keras.random.SeedGenerator(seed)
        self.noise_level = keras.Variable(0.0, trainable=False, dtype="float32", name="noise_level")
        self.trackers: dict[str, keras.metrics.Metric] = {}
        self.test_trackers: dict[str, keras.metrics.Metric] = {}
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
        self.likelihood, self.matching, self.task = likelihood, matching, task
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
    def metrics(self) -> list[keras.metrics.Metric]:
        """What training and evaluation measure; Keras resets them at the start of each epoch."""
        return [*self.trackers.values(), *self.test_trackers.values()]

    @property
    def training_state(self) -> dict[str, keras.Variable]:
        """Every variable that a resumed run needs, by a name of its own."""
        groups = {
            "network": self.network.variables,
            "optimizer": self.optimizer.variables,
            "noise": [self.training_noise.state],
            "chains": self.chains.variables if self.chains else [],
        }
        return {
            f"{group}/{position}": variable
            for group, variables in groups.items()
            for position, variable in enumerate(variables)
        }

    def fit(
        self,
        x: Any = None,
        *,
        batch_size: int = 8,
        initial_epoch: int = 0,
        mirror_axes: tuple[int, ...] = (),
        callbacks: list[keras.callbacks.Callback] | None = None,
        **keras_arguments: Any,
    ) -> keras.callbacks.History:
        """Train on shapes: Keras' own `fit`, callbacks and all.

        Args:
            x: occupancy in [0, 1], ``[n, D, H, W]``, or a dataset of such batches (whose values
                are not checked).
            batch_size: shapes a batch, where `x` is an array.
            initial_epoch: the epoch to go on from.
            mirror_axes: axes along which shapes are mirrored at random, where `x` is an array.
            callbacks: Keras callbacks; a :class:`~descnet3d.checkpoints.TrainingCheckpoint` makes
                the run one that `descnet3d.checkpoints.restore` goes on with.
            keras_arguments: passed on to `keras.Model.fit`; `validation_data` takes occupancy.

        Returns:
            The Keras history. A second `fit` goes on with the chains of the first; its epochs, and
            with them the order of the shapes, count from `initial_epoch` again.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid.
            DivergenceError: when training runs off; the last checkpoint is as it was.
        """
        backend.require_gradients("training")
        if getattr(self, "optimizer", None) is None:
            self.compile()
        if ops.is_tensor(x):
            x = ops.convert_to_numpy(x)
        if isinstance(x, np.ndarray | list):
            shapes = as_occupancy(x, "x", self.grid)
            x = self._batches(shapes, batch_size, mirror_axes)
            # Keras would shuffle the batches once more, by a state that no checkpoint holds.
            keras_arguments["shuffle"] = False
        elif mirror_axes:
            raise ValueError("mirror_axes needs x to be an array: mirror the dataset's own shapes.")
        held_out = keras_arguments.get("validation_data")
        if isinstance(held_out, np.ndarray | list):
            held_out = as_occupancy(held_out, "validation_data", self.grid)
            keras_arguments["validation_data"] = self._batches(held_out, batch_size)
        if isinstance(callbacks, keras.callbacks.Callback):
            callbacks = [callbacks]
        # From here on the figures of the preset that this model came from are not its own.
        for key in set(self.preset) - {"task", "category", "recipe"}:
            del self.preset[key]
        callbacks = [EpochSettings(x), DivergenceWatch(), *(callbacks or [])]
        return super().fit(x, initial_epoch=initial_epoch, callbacks=callbacks, **keras_arguments)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One iteration: mode seeking from the chains, then mode shifting by the optimizer."""
        observed, constraint = self._observed(data)
        synthesized, measured = None, {}
        if self.likelihood is not None:
            synthesized, measured = self._run_chains(observed, constraint)
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

    def _batches(
        self, shapes: np.ndarray, batch_size: int, mirror_axes: tuple[int, ...] = ()
    ) -> VoxelBatches:
        corruption = self.task.corruption if isinstance(self.task, Recovery) else None
        return VoxelBatches(
            shapes, batch_size, seed=self.seed, mirror_axes=mirror_axes, corruption=corruption
        )

    def _observed(self, data: Any) -> tuple[Any, Constraint | None]:
        """The shapes of a batch, in model space, and what the task holds of them."""
        occupancy, visible = keras.utils.unpack_x_y_sample_weight(data)[0], None
        if isinstance(occupancy, dict):
            occupancy, visible = occupancy["occupancy"], occupancy.get("visible")
        grid = tuple(occupancy.shape[1:4])
        if grid != self.grid:
            raise ValueError(f"shapes must be on the model's grid {self.grid}, but come on {grid}.")
        observed = self.to_model_space(occupancy)
        constraint = self.task.constraint(observed, visible) if self.task is not None else None
        return observed, constraint

    def _default_objective(self) -> tuple[MaximumLikelihood | None, EquilibriumMatching | None]:
        recipe = self.preset.get("recipe") or {}
        if self.preset and recipe.get("matching_steps", 1):
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
        self, observed: Any, constraint: Constraint | None
    ) -> tuple[Any, dict[str, Any]]:
        """Mode seeking from where this iteration's chains start."""
        settings, chains, indices = self.likelihood.langevin, self.likelihood.chains, None
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
        synthesized, measured = self._seek_modes(initial, observed, constraint)
        if self.chains is not None:
            self.chains.put(indices, synthesized)
        return synthesized, measured

    def _seek_modes(
        self, initial: Any, observed: Any, constraint: Constraint | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """What l Langevin steps make of positions, and what is measured on the way."""
        settings = self.likelihood.langevin
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

    def _update_trackers(self, measured: dict[str, Any]) -> dict[str, Any]:
        for name, tracker in self.trackers.items():
            tracker.update_state(measured[name])
        return {name: tracker.result() for name, tracker in self.trackers.items()}
