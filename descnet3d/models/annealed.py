"""A descriptor at every noise level, of several categories: E(Y | c, level)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from descnet3d.energy import backend
from descnet3d.energy.annealing import AnnealedSampler, AnnealingSettings, Denoising, signal_of
from descnet3d.models.batches import VoxelBatches
from descnet3d.models.energy_based import EnergyBasedModel
from descnet3d.models.features import PooledResponses
from descnet3d.shapes import warps
from descnet3d.shapes.occupancy import as_labels, as_occupancy


@keras.saving.register_keras_serializable("descnet3d")
class AnnealedDescriptor(EnergyBasedModel):
    """An energy of noisy shapes of several categories, E(Y | c, level) = ‖Y‖²/2s² - f.

    At a noise-to-signal level, s = (1 - g)·`reference_std` with g = 1 / (1 + level) is the standard
    deviation of the noise in Y. The shapes of a category are sampled by annealed Langevin dynamics
    from pure noise down to clean shapes (`energy.annealing`).

    Args:
        network: f; maps shapes `[n, D, H, W, 1]`, conditions `[n, c + 6]` and levels `[n, 1]`
            to `[n, 1]`, and has a layer `log_odds` that gives the voxels' odds `[n, D, H, W, 1]`,
            as `models.conditional_network.conditional` builds it.
        classes: the names of the categories.
        field: a network of the same kind, whose odds draw shapes; the network's own where None.
        voxel_mean: what is subtracted from occupancy.
        reference_std: half the distance of occupied and empty voxels.
        sampling: the schedule of `synthesize`.
        category: the category that the model is bound to; None where each call says it.
        seed: seeds the noise of training.

    Raises:
        ValueError: when the network's inputs are others, or `category` is none of `classes`.
    """

    preset_class = "AnnealedDescriptor"

    def __init__(
        self,
        network: keras.Model,
        classes: Sequence[str],
        *,
        field: keras.Model | None = None,
        voxel_mean: float = 0.5,
        reference_std: float = 0.5,
        sampling: AnnealingSettings | None = None,
        category: str | None = None,
        seed: int = 0,
    ) -> None:
        self.classes = tuple(classes)
        self.category = category
        super().__init__(
            grid=tuple(network.inputs[0].shape[1:4]),
            voxel_mean=float(voxel_mean),
            seed=seed,
            name="annealed_descriptor",
        )
        self.network = network
        self.reference_std = float(reference_std)
        self.sampling = sampling or AnnealingSettings()
        self.sampling_noise = keras.random.SeedGenerator(seed)
        self._pooled = PooledResponses(network, self._network_inputs)
        self._compiled_energy = backend.compiled(self.energy_of)
        self._condition_of(category, 1)
        self.field = field
        self._odds = _odds_of(field or network)
        draws = {"energy": self.drawn_by_energy, "odds": self.drawn_by_odds}
        self.sampler = AnnealedSampler(draws, self.grid, self.reference_std, self.sampling_noise)

    def bound_to(self, category: str | None) -> Self:
        """The same model, with the same weights, for one category; None for all of them."""
        bound = type(self)(
            self.network,
            self.classes,
            field=self.field,
            voxel_mean=self.voxel_mean,
            reference_std=self.reference_std,
            sampling=self.sampling,
            category=category,
            seed=self.seed,
        )
        bound.preset = dict(self.preset)
        return bound

    def with_categories(self, names: Sequence[str]) -> Self:
        """The same model, or one that knows new categories as well.

        Args:
            names: categories; a new one is told to the network by the mean of what those that it
                knows are told by, until it has learned.
        """
        new = [name for name in names if name not in self.classes]
        if not new:
            return self
        return type(self)(
            _with_conditions(self.network, len(self.classes), len(new)),
            (*self.classes, *new),
            voxel_mean=self.voxel_mean,
            reference_std=self.reference_std,
            sampling=self.sampling,
            seed=self.seed,
        )

    # --- The model ---------------------------------------------------------------------------

    def score_of(self, positions: Any, condition: Any, level: Any) -> Any:
        """f(Y | c, level), `[n]`.

        Args:
            positions: Y, `[n, D, H, W, 1]` in model space, as the level's path has them.
            condition: `[n, c + 6]`: categories, one-hot, or zeros where none is told; then how the
                shape was warped (`shapes.warps`), or zeros.
            level: noise-to-signal, `[n, 1]`.
        """
        score = self.network([positions, condition, level], training=False)
        return ops.cast(ops.reshape(score, (-1,)), "float32")

    def energy_of(self, positions: Any, condition: Any, level: Any) -> Any:
        """E(Y | c, level) = ‖Y‖²/2s² - f(Y | c, level), `[n]` (eq. 1); as in `score_of`."""
        variance = ops.square(self._noise_std(level))[:, 0]
        square = ops.sum(ops.square(positions), axis=(1, 2, 3, 4))
        return square / (2 * variance) - self.score_of(positions, condition, level)

    def drawn_by_energy(
        self, positions: Any, condition: Any, level: Any, guidance: Any = None
    ) -> Any:
        """The shapes X̂ = (Y - s²·∂E/∂Y)/g, to which the energy descends from noisy ones.

        With guidance, that is (1 + guidance)·E(Y | c) - guidance·E(Y).
        """

        def energy(moved: Any) -> Any:
            found = self.energy_of(moved, condition, level)
            if guidance is not None:
                untold = self.energy_of(moved, ops.zeros_like(condition), level)
                found = found + guidance * (found - untold)
            return found

        _, gradient = backend.value_and_input_gradient(energy, positions)
        return self._descended(positions, gradient, level)

    def drawn_by_odds(
        self, positions: Any, condition: Any, level: Any, guidance: Any = None
    ) -> Any:
        """The mean of independent voxels with the network's odds, after noisy ones were seen."""
        odds = self._odds([positions, condition, level], training=False)
        if guidance is not None:
            untold = self._odds([positions, ops.zeros_like(condition), level], training=False)
            odds = odds + guidance * (odds - untold)
        return self._mean_of(self._posterior(odds, positions, level))

    def _noise_std(self, level: Any) -> Any:
        return (1.0 - signal_of(level)) * self.reference_std

    def _descended(self, positions: Any, gradient: Any, level: Any) -> Any:
        step = _spread(ops.square(self._noise_std(level)))
        return (positions - step * gradient) / _spread(signal_of(level))

    def _posterior(self, odds: Any, positions: Any, level: Any) -> Any:
        """The odds of each voxel after its own noisy value was seen, too."""
        own = 2.0 * signal_of(level) * self.reference_std / ops.square(self._noise_std(level))
        return odds + _spread(own) * positions

    def _mean_of(self, odds: Any) -> Any:
        return self.reference_std * ops.tanh(0.5 * odds)

    def _condition_of(self, category: str | None, count: int) -> np.ndarray:
        """Rows that tell a category, the model's own one, or none, and no warp.

        Raises:
            ValueError: when the model knows no such category.
        """
        category = category or self.category
        rows = np.zeros((count, len(self.classes) + warps.NUMBERS), np.float32)
        if category is not None:
            if category not in self.classes:
                raise ValueError(
                    f"category must be one of {', '.join(self.classes)}, but it is {category!r}."
                )
            rows[:, self.classes.index(category)] = 1.0
        return rows

    # --- What users ask of it ----------------------------------------------------------------

    def call(self, occupancy: Any) -> Any:
        """The energy of occupancy `[n, D, H, W]`, as a tensor `[n]`; see `energy`."""
        positions = self.to_model_space(occupancy)
        return self._energy_at_the_end(positions, self.category)

    def energy(
        self, shapes: Any, batch_size: int = 32, *, category: str | None = None
    ) -> np.ndarray:
        """E(Y | c) of each shape at the last noise level of `sampling`: the lower, the likelier.

        Args:
            shapes: occupancy in [0, 1], `[n, D, H, W]`.
            batch_size: shapes at a time.
            category: c; the model's own, or none, where it is not given.

        Returns:
            A float32 array `[n]`.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid, or there is no such
                category.
        """
        return self._in_batches(
            lambda positions: self._energy_at_the_end(positions, category), shapes, batch_size
        )

    def _network_inputs(self, positions: Any) -> list[Any]:
        """Clean shapes on the path of the features' level, and no category."""
        count, level = ops.shape(positions)[0], self.sampling.feature_level
        condition = ops.zeros((count, len(self.classes) + warps.NUMBERS))
        return [signal_of(level) * positions, condition, ops.full((count, 1), level)]

    def _energy_at_the_end(self, shapes: Any, category: str | None) -> Any:
        """The energy of clean shapes in model space, at the middle of the last level's path."""
        count, level = shapes.shape[0], self.sampling.last_level
        condition = ops.convert_to_tensor(self._condition_of(category, count))
        levels = ops.full((count, 1), level)
        return self._compiled_energy(signal_of(level) * shapes, condition, levels)

    def _told(self, category: str | None, num: int, known: bool = False) -> dict[str, Any]:
        """The condition of each shape; all categories in turn where nothing is asked or known."""
        if category is not None or self.category is not None or known:
            return {"condition": self._condition_of(category, num)}
        each = np.concatenate([self._condition_of(name, 1) for name in self.classes])
        return {"condition": each[np.arange(num) % len(each)]}

    @property
    def _revision(self) -> AnnealingSettings:
        """Given shapes are noised to a level at which what they are is decided."""
        return replace(self.sampling, first_level=self.sampling.revision_level)

    # --- Training ----------------------------------------------------------------------------

    def compile(
        self, optimizer: Any = None, *, denoising: Denoising | None = None, **keras_arguments: Any
    ) -> None:
        """Choose the objective and the optimizer.

        Args:
            optimizer: a Keras optimizer; None stands for Adam(1e-3) with averaged weights and
                clipped gradients.
            denoising: the objective. Where the energy is learned and there is no field yet, a
                frozen copy of the network, as it is now, becomes the field.
            keras_arguments: passed on to `keras.Model.compile`.
        """
        self.denoising = denoising or Denoising()
        if self.denoising.learns == "energy" and self.field is None:
            self.field = keras.models.clone_model(self.network)
            self.field.set_weights(self.network.get_weights())
            self._odds = _odds_of(self.field)
        if self.field is not None:
            self.field.trainable = False
        if optimizer is None:
            optimizer = keras.optimizers.Adam(
                1e-3, beta_2=0.99, use_ema=True, ema_momentum=0.999, global_clipnorm=0.5
            )
        names = {"odds": ["cross_entropy"], "energy": ["gradient_error"]}[self.denoising.learns]
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}
        self.test_trackers = {}
        keras.Model.compile(self, optimizer=optimizer, **keras_arguments)
        self.optimizer.build(self.trainable_variables)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *,
        batch_size: int = 8,
        mirror_axes: Any = (),
        **keras_arguments: Any,
    ) -> keras.callbacks.History:
        """Train on shapes of the categories.

        Args:
            x: occupancy in [0, 1], `[n, D, H, W]`, or a dataset of batches of it with labels.
            y: integers `[n]`, an index into `classes` for each shape; a model that is bound to a
                category needs none.
            batch_size: shapes a batch.
            mirror_axes: axes along which shapes are mirrored at random: of all shapes, or a
                mapping from categories to theirs.
            keras_arguments: passed on to `ShapeModel.fit`.

        Returns:
            The Keras history.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid, or the labels not
                theirs.
        """
        if getattr(self, "optimizer", None) is None:
            self.compile()
        if isinstance(x, np.ndarray | list):
            shapes = as_occupancy(x, "x", self.grid)
            if y is None and self.category is None:
                raise ValueError("y missing: give one label a shape, an index into model.classes.")
            own = self.classes.index(self.category) if self.category else 0
            labels = np.full(len(shapes), own) if y is None else y
            labels = as_labels(labels, len(shapes), len(self.classes), "y")
            if isinstance(mirror_axes, Mapping):
                mirror_axes = {
                    self.classes.index(name): axes
                    for name, axes in mirror_axes.items()
                    if name in self.classes
                }
            x = VoxelBatches(
                shapes,
                batch_size,
                seed=self.seed,
                mirror_axes=mirror_axes,
                labels=labels,
                warped=self.denoising.warped,
            )
            # Keras would shuffle the batches once more, by a state that no checkpoint holds.
            keras_arguments["shuffle"] = False
        return super().fit(x, **keras_arguments)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of descent on the denoising loss of a batch."""
        noised = self._noised(data, self.training_noise, self.denoising.untold)
        name, loss_of = self._loss()

        def objective() -> tuple[Any, Any]:
            loss = loss_of(*noised)
            return loss, ops.stop_gradient(loss)

        loss, gradients = backend.gradients(objective, self.trainable_variables)
        backend.apply_gradients(self.optimizer, gradients, self.trainable_variables)
        return self._update_trackers({name: loss})

    def test_step(self, data: Any) -> dict[str, Any]:
        """The denoising loss of held-out shapes, whose categories are all told."""
        name, loss_of = self._loss()
        loss = ops.stop_gradient(loss_of(*self._noised(data, self.sampling_noise, 0.0)))
        return self._update_trackers({name: loss})

    def _loss(self) -> tuple[str, Any]:
        if self.denoising.learns == "odds":
            return "cross_entropy", self._cross_entropy
        return "gradient_error", self._gradient_error

    def _cross_entropy(self, positions: Any, condition: Any, level: Any, observed: Any) -> Any:
        odds = self._posterior(self._odds([positions, condition, level]), positions, level)
        return ops.mean(keras.losses.binary_crossentropy(observed, odds, from_logits=True))

    def _gradient_error(self, positions: Any, condition: Any, level: Any, observed: Any) -> Any:
        target = ops.stop_gradient(self.drawn_by_odds(positions, condition, level))
        _, gradient = backend.value_and_input_gradient(
            lambda moved: self.energy_of(moved, condition, level), positions, differentiable=True
        )
        drawn = self._descended(positions, gradient, level)
        return ops.mean(ops.square((drawn - target) / self.reference_std))

    def _noised(
        self, data: Any, noise: keras.random.SeedGenerator, untold: float
    ) -> tuple[Any, Any, Any, Any]:
        """Positions on the paths of a batch, their conditions and levels, and the occupancy."""
        shapes, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        told: Any = None
        if isinstance(shapes, dict):
            shapes, told = shapes["occupancy"], shapes["warps"]
        observed = self.observed_of(shapes)
        count = ops.shape(observed)[0]
        if labels is None:
            category = ops.broadcast_to(
                self._condition_of(None, 1)[:, : len(self.classes)], (count, len(self.classes))
            )
        else:
            category = ops.one_hot(ops.cast(labels, "int32"), len(self.classes), dtype="float32")
        is_told = keras.random.uniform((count, 1), seed=noise) >= untold
        category = category * ops.cast(is_told, "float32")
        warp = ops.zeros((count, warps.NUMBERS)) if told is None else ops.cast(told, "float32")
        condition = ops.concatenate([category, warp], axis=1)
        level = self.denoising.draw_levels(count, noise)
        signal = _spread(signal_of(level))
        normal = self.reference_std * keras.random.normal(ops.shape(observed), seed=noise)
        positions = signal * observed + (1.0 - signal) * normal
        return positions, condition, level, observed + self.voxel_mean

    # --- Saving ------------------------------------------------------------------------------

    @property
    def parts(self) -> dict[str, keras.Model]:
        """The networks that the model is made of, by the names that its preset gives them."""
        return {"network": self.network, **({"field": self.field} if self.field else {})}

    @property
    def settings(self) -> dict[str, Any]:
        """What a preset's config says of the model, beside its networks."""
        return {
            "classes": list(self.classes),
            "category": self.category,
            "voxel_mean": self.voxel_mean,
            "reference_std": self.reference_std,
            "sampling": asdict(self.sampling),
        }

    @classmethod
    def of_parts(cls, parts: Mapping[str, keras.Model], settings: Mapping[str, Any]) -> Self:
        """The model of these networks and settings."""
        return cls(
            parts["network"],
            settings["classes"],
            field=parts.get("field"),
            voxel_mean=settings["voxel_mean"],
            reference_std=settings["reference_std"],
            sampling=AnnealingSettings(**settings["sampling"]),
            category=settings["category"],
            seed=settings.get("seed", 0),
        )


def _odds_of(network: keras.Model) -> keras.Model:
    """The network as far as the voxels' odds."""
    return keras.Model(network.inputs, network.get_layer("log_odds").output)


def _with_conditions(network: keras.Model, known: int, new: int) -> keras.Model:
    """The network with so many more conditions after those that it knows."""
    config = network.get_config()
    for layer in config["layers"]:
        if layer["name"] == "condition":
            layer["config"]["batch_shape"] = [None, network.input_shape[1][1] + new]
        layer.pop("build_config", None)
    larger = keras.Model.from_config(config)
    for ours, theirs in zip(larger.variables, network.variables, strict=True):
        value = ops.convert_to_numpy(theirs)
        if ours.shape != theirs.shape:
            mean = np.repeat(value[:known].mean(axis=0, keepdims=True), new, axis=0)
            value = np.concatenate([value[:known], mean, value[known:]])
        ours.assign(value)
    return larger


def _spread(numbers: Any) -> Any:
    """One number a shape, `[n, 1]`, for all its voxels."""
    return ops.reshape(numbers, (-1, 1, 1, 1, 1))
