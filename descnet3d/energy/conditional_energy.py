"""E(Y | c, level): an energy at every noise level, what it draws, and how it learns to."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from descnet3d.energy import backend
from descnet3d.energy.annealing import signal_of
from descnet3d.energy.composition import Composition, observation_of, summed, untold


class ConditionalEnergy:
    """E(Y | c, level) = ‖Y‖²/2s² - f(Y | c, level), and the shapes that noisy ones are drawn to.

    At a noise-to-signal level, s = (1 - g)·`reference_std` with g = 1 / (1 + level) is the standard
    deviation of the noise in Y. All its methods take

    - positions: Y, `[n, D, H, W, 1]` in model space, as the level's path has them,
    - condition: `[n, c + 6]`: categories, one-hot, or zeros where none is told; then how the shape
      was warped (`shapes.warps`), or zeros; or a `Composition` of several such conditions, which
      may say what is observed of the shapes,
    - level: noise-to-signal, `[n, 1]`.

    Args:
        network: f, with a layer `log_odds`, as `models.conditional_network.conditional` builds it.
        field: a network of the same kind whose odds draw shapes; the network's own where None.
        reference_std: half the distance of occupied and empty voxels.
    """

    def __init__(
        self, network: keras.Model, field: keras.Model | None, reference_std: float
    ) -> None:
        self.network = network
        self.reference_std = reference_std
        drawing = field or network
        self.log_odds = keras.Model(drawing.inputs, drawing.get_layer("log_odds").output)
        self.own_log_odds = self.log_odds
        if field is not None:
            self.own_log_odds = keras.Model(network.inputs, network.get_layer("log_odds").output)

    def score_of(self, positions: Any, condition: Any, level: Any) -> Any:
        """f(Y | c, level), `[n]`."""

        def score(told: Any) -> Any:
            found = _called(self.network, positions, told, level, observation_of(condition))
            return ops.cast(ops.reshape(found, (-1,)), "float32")

        return summed(score, condition)

    def odds_of(self, positions: Any, condition: Any, level: Any) -> Any:
        """The odds of each voxel, `[n, D, H, W, 1]`, before its own noisy value was seen."""
        return self._odds(self.log_odds, positions, condition, level)

    def _odds(self, network: keras.Model, positions: Any, condition: Any, level: Any) -> Any:
        def odds(told: Any) -> Any:
            found = _called(network, positions, told, level, observation_of(condition))
            return ops.cast(found, "float32")

        return summed(odds, condition)

    def energy_of(self, positions: Any, condition: Any, level: Any) -> Any:
        """E(Y | c, level), `[n]` (eq. 1)."""
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
                found = found + guidance * (found - self.energy_of(moved, nothing, level))
            return found

        nothing = untold(condition)
        _, gradient = backend.value_and_input_gradient(energy, positions)
        drawn = self._descended(positions, gradient, level)
        return self._as_told(drawn, condition.told) if isinstance(condition, Composition) else drawn

    def drawn_by_odds(
        self, positions: Any, condition: Any, level: Any, guidance: Any = None
    ) -> Any:
        """The mean of independent voxels with the field's odds, after noisy ones were seen."""
        odds = self.odds_of(positions, condition, level)
        if guidance is not None:
            odds = odds + guidance * (odds - self.odds_of(positions, untold(condition), level))
        if isinstance(condition, Composition):
            odds = odds + condition.told
        return self.reference_std * ops.tanh(0.5 * self._posterior(odds, positions, level))

    def squared_error(self, positions: Any, condition: Any, level: Any, shapes: Any) -> Any:
        """‖X - X̂‖² of clean shapes X and what the energy's own odds draw, `[n]`.

        It is in units of `reference_std`. The energy's network may be a smaller one than the field:
        what it leaves out of single voxels hardly depends on the category.
        """
        odds = self._odds(self.own_log_odds, positions, condition, level)
        drawn = ops.tanh(0.5 * self._posterior(odds, positions, level))
        return ops.sum(ops.square(shapes / self.reference_std - drawn), axis=(1, 2, 3, 4))

    # --- Learning ----------------------------------------------------------------------------

    def noised(self, shapes: Any, level: Any, noise: keras.random.SeedGenerator) -> Any:
        """Positions g·X + (1 - g)·ε on the paths of clean shapes X."""
        signal = spread(signal_of(level))
        normal: Any = keras.random.normal(ops.shape(shapes), seed=noise)
        return signal * shapes + (1.0 - signal) * self.reference_std * normal

    def cross_entropy(self, positions: Any, condition: Any, level: Any, occupancy: Any) -> Any:
        """Of the posterior odds of the voxels against the clean ones, per voxel, `[n]`.

        Voxels that an observation leaves no doubt of count as right.
        """
        odds = self._posterior(self.odds_of(positions, condition, level), positions, level)
        losses = keras.losses.binary_crossentropy(occupancy, odds, from_logits=True)
        observation = observation_of(condition)
        if observation is not None:
            certain = ops.abs(observation[..., 0]) >= self.reference_std
            losses = ops.where(certain, 0.0, losses)
        return _means(losses)

    def gradient_error(self, positions: Any, condition: Any, level: Any, occupancy: Any) -> Any:
        """The mean squares between what energy and odds draw, in units of a voxel, `[n]`."""
        target = ops.stop_gradient(self.drawn_by_odds(positions, condition, level))
        _, gradient = backend.value_and_input_gradient(
            lambda moved: self.energy_of(moved, condition, level), positions, differentiable=True
        )
        drawn = self._descended(positions, gradient, level)
        return _means(ops.square((drawn - target) / self.reference_std))

    def _noise_std(self, level: Any) -> Any:
        return (1.0 - signal_of(level)) * self.reference_std

    def _descended(self, positions: Any, gradient: Any, level: Any) -> Any:
        step = spread(ops.square(self._noise_std(level)))
        return (positions - step * gradient) / spread(signal_of(level))

    def _as_told(self, drawn: Any, told: Any) -> Any:
        """Means of voxels, after log odds were told of them."""
        limit = self.reference_std
        odds = 2.0 * ops.arctanh(ops.clip(drawn / limit, -1.0 + 1e-6, 1.0 - 1e-6))
        return ops.where(ops.equal(told, 0.0), drawn, limit * ops.tanh(0.5 * (odds + told)))

    def _posterior(self, odds: Any, positions: Any, level: Any) -> Any:
        """The odds of each voxel after its own noisy value was seen, too."""
        own = 2.0 * signal_of(level) * self.reference_std / ops.square(self._noise_std(level))
        return odds + spread(own) * positions


def is_told_observations(network: keras.Model) -> bool:
    """Whether a network is told what is observed of shapes, beside condition and level."""
    return len(network.inputs) > 3


def _called(network: keras.Model, positions: Any, told: Any, level: Any, observation: Any) -> Any:
    """What a network gives; one that is told what is observed is told of nothing where it is None.

    A network that is not told samples under the projection alone.
    """
    inputs = [positions, told, level]
    if is_told_observations(network):
        nothing = ops.concatenate([ops.zeros_like(positions)] * 2, axis=-1)
        inputs.append(nothing if observation is None else observation)
    return network(inputs, training=False)


def spread(numbers: Any) -> Any:
    """One number a shape, `[n, 1]`, for all its voxels."""
    return ops.reshape(numbers, (-1, 1, 1, 1, 1))


def _means(values: Any) -> Any:
    """Of each shape's values, `[n]`."""
    return ops.mean(values, axis=tuple(range(1, len(values.shape))))
