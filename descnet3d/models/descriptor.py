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
from descnet3d.fitting import DivergenceError, MaximumLikelihood
from descnet3d.langevin import LangevinDiagnostics, LangevinSettings, langevin_dynamics
from descnet3d.models.energy_based import EnergyBasedModel
from descnet3d.voxels import as_occupancy

__all__ = ["DescriptorNet", "DivergenceError", "MaximumLikelihood"]

# Long runs are cut into compiled pieces of this many steps, so that their progress can be shown.
STEPS_PER_PIECE = 10


@keras.saving.register_keras_serializable("descnet3d")
class DescriptorNet(EnergyBasedModel):
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
            seed=seed,
            name="descriptor_net",
        )
        self.voxel_mean = float(voxel_mean)
        self.sampling = sampling or LangevinSettings(initial_std=self.reference_std)
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

    # --- Inside ------------------------------------------------------------------------------

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
