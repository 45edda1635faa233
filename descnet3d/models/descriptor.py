"""The 3D DescriptorNet: an energy-based model of shapes, trained by maximum likelihood."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from descnet3d import backend, networks, preset_folder
from descnet3d.batches import VoxelBatches
from descnet3d.chains import PersistentChains
from descnet3d.fitting import (
    DivergenceError,
    DivergenceWatch,
    EpochSettings,
    Maximum,
    MaximumLikelihood,
)
from descnet3d.langevin import LangevinDiagnostics, LangevinSettings, langevin_dynamics
from descnet3d.models.pretraining import EquilibriumMatching
from descnet3d.voxels import as_occupancy

__all__ = ["DescriptorNet", "DivergenceError", "MaximumLikelihood"]

# Long runs are cut into compiled pieces of this many steps, so that their progress can be shown.
STEPS_PER_PIECE = 10


@keras.saving.register_keras_serializable("descnet3d")
class DescriptorNet(keras.Model):
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

    def __init__(
        self,
        network: keras.Model,
        *,
        voxel_mean: float = 0.0,
        reference_std: float = 0.5,
        sampling: LangevinSettings | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(name="descriptor_net")
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
        self.network = network
        self.grid: tuple[int, int, int] = shape[1:4]
        self.voxel_mean = float(voxel_mean)
        self.reference_std = float(reference_std)
        self.sampling = sampling or LangevinSettings(initial_std=self.reference_std)
        self.seed = seed
        self.preset: dict[str, Any] = {}
        self.noise_level = keras.Variable(0.0, trainable=False, dtype="float32", name="noise_level")
        self.trackers: dict[str, keras.metrics.Metric] = {}
        self.training_noise = keras.random.SeedGenerator(seed)
        self.sampling_noise = keras.random.SeedGenerator(seed)
        self.built = True
        self._compiled_energy = backend.compiled(self.energy_of)
        self._compiled_pieces: dict[tuple[int, bool], Any] = {}
        self._compiled_features: Any = None

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for Keras' own saving."""
        return {
            "network": keras.saving.serialize_keras_object(self.network),
            "voxel_mean": self.voxel_mean,
            "reference_std": self.reference_std,
            "sampling": asdict(self.sampling),
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """The model of a configuration that `get_config` gave."""
        network = keras.saving.deserialize_keras_object(config["network"], custom_objects)
        sampling = LangevinSettings(**config["sampling"])
        return cls(**{**config, "network": network, "sampling": sampling})

    # --- The model ---------------------------------------------------------------------------

    def score_of(self, positions: Any) -> Any:
        """f(Y; θ), ``[n]``, of positions ``[n, D, H, W, 1]`` in model space."""
        score = self.network(positions, training=False)
        return ops.cast(ops.reshape(score, (-1,)), "float32")

    def energy_of(self, positions: Any) -> Any:
        """E(Y; θ) = ‖Y‖²/2s² - f(Y; θ), ``[n]``, of positions in model space (eqs. 1 and 5)."""
        reference = ops.sum(ops.square(positions), axis=(1, 2, 3, 4)) / (2 * self.reference_std**2)
        return reference - self.score_of(positions)

    def to_model_space(self, occupancy: Any) -> Any:
        """Occupancy ``[n, D, H, W]`` as positions ``[n, D, H, W, 1]``."""
        positions = ops.cast(occupancy, "float32") - self.voxel_mean
        return positions if len(positions.shape) == 5 else ops.expand_dims(positions, -1)

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

    def features(self, shapes: Any, batch_size: int = 32) -> np.ndarray:
        """What the network sees in each shape: its intermediate responses, pooled over space.

        Args:
            shapes: occupancy in [0, 1], ``[n, D, H, W]``.
            batch_size: shapes at a time.

        Returns:
            A float32 array ``[n, d]``, in the network's order: for each layer whose responses lie
            in space (convolutions, responses of patches) the mean and the maximum of each filter's,
            and the responses of the other dense layers.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid.
        """
        if self._compiled_features is None:
            intermediates = networks.intermediates(self.network)
            order = [layer.name for layer in self.network.layers]

            def features(positions: Any) -> Any:
                responses = intermediates(positions)
                # A dictionary's order is the backend's; the features' is the network's.
                return _pooled([responses[name] for name in order if name in responses])

            self._compiled_features = backend.compiled(features)
        return self._in_batches(self._compiled_features, shapes, batch_size)

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
            seed: the same seed gives the same shapes on the same backend; None gives new ones.
            num_steps: Langevin steps, instead of the model's own `sampling.num_steps`.
            batch_size: shapes at a time; another size gives other shapes.
            progress: whether to show a progress bar with the time left.

        Returns:
            Occupancy in [0, 1], float32 ``[num, D, H, W]``.

        Raises:
            ValueError: when `num`, `num_steps`, `seed` or `batch_size` is out of range.
            DivergenceError: when the dynamics run off.
        """
        _require_positive_integer("num", num)
        _require_positive_integer("batch_size", batch_size)
        if seed is None:
            seed = int(np.random.default_rng().integers(2**31))
        if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
            raise ValueError(f"seed must be an integer from 0 to 2³² - 1, but it is {seed!r}.")
        settings = self.sampling
        if num_steps is not None:
            _require_positive_integer("num_steps", num_steps)
            settings = replace(settings, num_steps=int(num_steps))
        bar = _progress_bar(-(-num // batch_size) * settings.num_steps) if progress else None
        self._reseed(int(seed))
        shapes = []
        for start in range(0, num, batch_size):
            count = min(batch_size, num - start)
            noise = keras.random.normal((count, *self.grid, 1), seed=self.sampling_noise)
            positions = settings.initial_std * noise
            for index, steps in enumerate(settings.steps_of_rounds()):
                if index:
                    positions = settings.contraction * positions
                positions, _ = self.run_langevin(positions, replace(settings, num_steps=steps), bar)
            if not np.isfinite(ops.convert_to_numpy(positions)).all():
                raise DivergenceError(
                    "Langevin dynamics ran off to values that are not finite: take a sampling "
                    f"step_size smaller than {settings.step_size}."
                )
            shapes.append(self.to_occupancy(positions))
        return np.concatenate(shapes)

    def run_langevin(
        self, initial: Any, settings: LangevinSettings, bar: keras.utils.Progbar | None = None
    ) -> tuple[Any, LangevinDiagnostics]:
        """Langevin dynamics on the model's energy.

        Args:
            initial: where the chains start, in model space, ``[n, D, H, W, 1]``.
            settings: steps, step size and temperature; one round.
            bar: a progress bar that counts the steps.

        Returns:
            The last positions, and the :class:`~descnet3d.langevin.LangevinDiagnostics` of every
            step as NumPy arrays.
        """
        positions, pieces = ops.convert_to_tensor(initial), []
        noisy = settings.temperature > 0
        for start in range(0, settings.num_steps, STEPS_PER_PIECE):
            steps = min(STEPS_PER_PIECE, settings.num_steps - start)
            if (steps, noisy) not in self._compiled_pieces:
                self._compiled_pieces[steps, noisy] = self._compile_piece(steps, noisy)
            run = self._compiled_pieces[steps, noisy]
            positions, diagnostics = run(
                positions,
                ops.convert_to_tensor(settings.step_size, "float32"),
                ops.convert_to_tensor(settings.temperature, "float32"),
            )
            pieces.append([ops.convert_to_numpy(values) for values in diagnostics])
            if bar is not None:
                bar.add(steps)
        return positions, LangevinDiagnostics(*map(np.concatenate, zip(*pieces, strict=True)))

    def save_preset(
        self, folder: str | Path, *, weights_dtype: str = "float16", **metadata: Any
    ) -> Path:
        """Write the model to a folder that `descnet3d.load` reads.

        Args:
            folder: where to; an earlier preset there is replaced.
            weights_dtype: "float16" halves the file; "float32" keeps every bit.
            metadata: what `config.json` says beside the model: id, task, category, description,
                scores.

        Returns:
            The folder.

        Raises:
            OutputError: when the folder can't be written.
        """
        config = {
            **self.preset,
            **metadata,
            "size": list(self.grid),
            "parameters": self.network.count_params(),
            "model": {
                "class": "DescriptorNet",
                "network": keras.saving.serialize_keras_object(self.network),
                "voxel_mean": self.voxel_mean,
                "reference_std": self.reference_std,
                "sampling": asdict(self.sampling),
            },
        }
        return preset_folder.write(Path(folder), config, self.network, weights_dtype)

    @classmethod
    def from_preset(cls, folder: str | Path) -> Self:
        """The model of a folder that `save_preset` wrote.

        Raises:
            PresetError: when the folder is not a preset, is damaged, or is of a newer format.
        """
        config = preset_folder.read_config(Path(folder))
        network = preset_folder.read_network(Path(folder), config)
        try:
            model = cls(
                network,
                voxel_mean=config["model"]["voxel_mean"],
                reference_std=config["model"]["reference_std"],
                sampling=LangevinSettings(**config["model"]["sampling"]),
            )
        except (TypeError, ValueError) as error:
            raise preset_folder.PresetError(
                f"{Path(folder) / preset_folder.CONFIG} describes no model: {error}."
            ) from None
        model.preset = {key: value for key, value in config.items() if key != "model"}
        model.preset["recipe"] = (config.get("training") or config).get("recipe")
        return model

    # --- Training ----------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = None,
        *,
        likelihood: MaximumLikelihood | None = None,
        matching: EquilibriumMatching | None = None,
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
            keras_arguments: passed on to `keras.Model.compile`.
        """
        if likelihood is None and matching is None:
            likelihood, matching = self._default_objective()
        if optimizer is None:
            kept = {"use_ema": True, "ema_momentum": 0.99, "global_clipnorm": 10.0}
            optimizer = keras.optimizers.Adam(1e-4, beta_1=0.5, **(kept if self.preset else {}))
        self.likelihood, self.matching = likelihood, matching
        self.chains: PersistentChains | None = None
        names = ["matching_loss"] if matching else []
        if likelihood is not None:
            names += ["value", "score_observed", "score_synthesized", "gradient_norm"]
            names += ["reconstruction_error", "chain_range"]
            if likelihood.chains.start == "persistent":
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
        return [*self.trackers.values(), *getattr(self, "test_trackers", {}).values()]

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
            x = VoxelBatches(shapes, batch_size, seed=self.seed, mirror_axes=mirror_axes)
            # Keras would shuffle the batches once more, by a state that no checkpoint holds.
            keras_arguments["shuffle"] = False
        elif mirror_axes:
            raise ValueError("mirror_axes needs x to be an array: mirror the dataset's own shapes.")
        held_out = keras_arguments.get("validation_data")
        if isinstance(held_out, np.ndarray | list):
            held_out = as_occupancy(held_out, "validation_data", self.grid)
            keras_arguments["validation_data"] = VoxelBatches(held_out, batch_size)
        if isinstance(callbacks, keras.callbacks.Callback):
            callbacks = [callbacks]
        # From here on the figures of the preset that this model came from are not its own.
        for key in set(self.preset) - {"task", "category", "recipe"}:
            del self.preset[key]
        callbacks = [EpochSettings(x), DivergenceWatch(), *(callbacks or [])]
        return super().fit(x, initial_epoch=initial_epoch, callbacks=callbacks, **keras_arguments)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One iteration: mode seeking from the chains, then mode shifting by the optimizer."""
        observed = self._observed(data)
        likelihood, matching = self.likelihood, self.matching
        measured: dict[str, Any] = {}
        synthesized = None
        if likelihood is not None:
            synthesized, diagnostics = self._seek_modes(observed, likelihood)
            difference = ops.mean(synthesized, axis=0) - ops.mean(observed, axis=0)
            measured["gradient_norm"] = ops.mean(diagnostics.gradient_norm)
            measured["reconstruction_error"] = ops.mean(ops.square(difference))
            measured["chain_range"] = ops.max(ops.abs(synthesized))

        def objective() -> tuple[Any, dict[str, Any]]:
            loss, parts = ops.convert_to_tensor(0.0), {}
            if likelihood is not None:
                observed_score = ops.mean(self.score_of(observed))
                synthesized_score = ops.mean(self.score_of(synthesized))
                loss += likelihood.weight * (synthesized_score - observed_score)
                parts = {"score_observed": observed_score, "score_synthesized": synthesized_score}
            if matching is not None:
                parts["matching_loss"] = matching.loss(
                    self.energy_of, observed, self.reference_std, self.training_noise
                )
                loss += matching.weight * parts["matching_loss"]
            for penalty in self.network.losses:
                loss += penalty
            return loss, {name: ops.stop_gradient(part) for name, part in parts.items()}

        parts, gradients = backend.gradients(objective, self.trainable_variables)
        backend.apply_gradients(self.optimizer, gradients, self.trainable_variables)
        measured.update(parts)
        if likelihood is not None:
            reference = self._reference_energy(synthesized) - self._reference_energy(observed)
            score_gap = measured["score_synthesized"] - measured["score_observed"]
            measured["value"] = reference - score_gap
        for name, tracker in self.trackers.items():
            tracker.update_state(measured[name])
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    def test_step(self, data: Any) -> dict[str, Any]:
        """The mean energy of held-out shapes and, in pretraining, their matching loss."""
        observed = self._observed(data)
        measured = {"energy": self.energy_of(observed)}
        if self.matching is not None:
            measured["matching_loss"] = self.matching.loss(
                self.energy_of, observed, self.reference_std, self.sampling_noise
            )
        count = ops.shape(observed)[0]
        for name, tracker in self.test_trackers.items():
            mean = ops.stop_gradient(ops.mean(measured[name]))
            tracker.update_state(mean, sample_weight=ops.cast(count, "float32"))
        return {name: tracker.result() for name, tracker in self.test_trackers.items()}

    def _observed(self, data: Any) -> Any:
        """The shapes of a batch, in model space."""
        occupancy = keras.utils.unpack_x_y_sample_weight(data)[0]
        grid = tuple(occupancy.shape[1:4])
        if grid != self.grid:
            raise ValueError(f"shapes must be on the model's grid {self.grid}, but come on {grid}.")
        return self.to_model_space(occupancy)

    def _default_objective(self) -> tuple[MaximumLikelihood | None, EquilibriumMatching | None]:
        recipe = self.preset.get("recipe") or {}
        if self.preset and recipe.get("matching_steps", 1):
            settings = {
                name: recipe[f"matching_{name}"]
                for name in ("scale", "fade_from")
                if f"matching_{name}" in recipe
            }
            return None, EquilibriumMatching(**settings)
        return MaximumLikelihood(), None

    def _seek_modes(
        self, observed: Any, likelihood: MaximumLikelihood
    ) -> tuple[Any, LangevinDiagnostics]:
        settings, indices = likelihood.langevin, None
        if self.chains is not None:
            indices, initial = self.chains.take(self.training_noise)
        elif likelihood.chains.start == "noise":
            shape = (likelihood.chains.per_step, *self.grid, 1)
            initial = settings.initial_std * keras.random.normal(shape, seed=self.training_noise)
        else:
            initial = observed
        synthesized, diagnostics = langevin_dynamics(
            self.energy_of,
            initial,
            num_steps=settings.num_steps,
            step_size=settings.step_size,
            temperature=self.noise_level * 1.0 if settings.temperature else 0,
            seed_generator=self.training_noise,
        )
        if self.chains is not None:
            self.chains.put(indices, synthesized)
        return synthesized, diagnostics

    # --- Inside ------------------------------------------------------------------------------

    def _reference_energy(self, positions: Any) -> Any:
        squares = ops.sum(ops.square(positions), axis=(1, 2, 3, 4))
        return ops.mean(squares) / (2 * self.reference_std**2)

    def _in_batches(self, function: Any, shapes: Any, batch_size: int) -> np.ndarray:
        _require_positive_integer("batch_size", batch_size)
        shapes = as_occupancy(shapes, "shapes", self.grid)
        parts = []
        for start in range(0, len(shapes), batch_size):
            part = function(self.to_model_space(shapes[start : start + batch_size]))
            parts.append(ops.convert_to_numpy(ops.stop_gradient(part)))
        return np.concatenate(parts)

    def _compile_piece(self, num_steps: int, noisy: bool) -> Any:
        def piece(positions: Any, step_size: Any, temperature: Any) -> tuple[Any, tuple[Any, ...]]:
            positions, diagnostics = langevin_dynamics(
                self.energy_of,
                positions,
                num_steps=num_steps,
                step_size=step_size,
                temperature=temperature if noisy else 0,
                seed_generator=self.sampling_noise,
            )
            return positions, tuple(diagnostics)

        return backend.compiled(piece)

    def _reseed(self, seed: int) -> None:
        self.sampling_noise.state.assign(np.array([seed, 0], dtype="uint32"))


def _pooled(responses: list[Any]) -> Any:
    """Mean and maximum over space of each convolution's responses; other responses as they are."""
    parts = []
    for response in responses:
        if len(response.shape) == 5:
            parts += [ops.mean(response, (1, 2, 3)), ops.max(response, (1, 2, 3))]
        elif len(response.shape) == 3:
            parts += [ops.mean(response, 1), ops.max(response, 1)]
        else:
            parts.append(response)
    return ops.concatenate(parts, axis=1)


def _require_positive_integer(name: str, value: Any) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer, but it is {value!r}.")


def _progress_bar(steps: int) -> keras.utils.Progbar:
    return keras.utils.Progbar(steps, unit_name="step")
