"""Models that learn to draw shapes from noisy ones, at every noise level."""

from __future__ import annotations

import abc
from typing import Any

import keras
from keras import ops

from descnet3d.energy import backend
from descnet3d.energy.annealing import level_weights
from descnet3d.energy.conditional_energy import ConditionalEnergy
from descnet3d.energy.native import native as as_native
from descnet3d.energy.native import require_native
from descnet3d.energy.settings import Denoising
from descnet3d.models.shape_model import ShapeModel


class DenoisingModel(ShapeModel):
    """A Keras model whose energy at every noise level learns by `Denoising`.

    Attributes:
        conditional: the energy, its odds, and how they learn.
        sampling_noise: the noise of what is measured while it learns.
    """

    conditional: ConditionalEnergy
    sampling_noise: keras.random.SeedGenerator

    @property
    @abc.abstractmethod
    def is_told_observations(self) -> bool:
        """Whether what draws shapes is told what is observed of them."""

    def _begin_learning(self, learns: str) -> None:
        """Make ready what learns, "odds" or "energy"."""

    @abc.abstractmethod
    def _noised(
        self, data: Any, noise: keras.random.SeedGenerator, untold: float
    ) -> tuple[Any, Any, Any, Any]:
        """Positions on the paths of a batch, their conditions and levels, and the occupancy."""

    def compile(
        self,
        optimizer: Any = None,
        *,
        denoising: Denoising | None = None,
        native: str = "no",
        **keras_arguments: Any,
    ) -> None:
        """Choose the objective and the optimizer.

        Args:
            optimizer: a Keras optimizer; None stands for Adam(1e-3) with averaged weights and
                clipped gradients.
            denoising: the objective. Where the energy is learned and there is no field yet, a
                frozen copy of the network, as it is now, becomes the field. Where the odds are
                learned, the field becomes the network, and an energy is to be fitted to it again.
            native: "float32" or "bfloat16": on PyTorch and a CPU, the loss becomes native code with
                such products (`energy.native`); "no" leaves it as it is.
            keras_arguments: passed on to `keras.Model.compile`.

        Raises:
            ValueError: when something is to be observed, and the network is not told what; or
                native code cannot be made here.
        """
        self.denoising = denoising or Denoising()
        require_native("native", native)
        if self.denoising.observed and not self.is_told_observations:
            raise ValueError(
                "denoising.observed needs a network that is told what is observed: one that "
                "with_categories(..., observing=True) makes, or conditional(observed=True)."
            )
        self._begin_learning(self.denoising.learns)
        if optimizer is None:
            optimizer = keras.optimizers.Adam(
                1e-3, beta_2=0.99, use_ema=True, ema_momentum=0.999, global_clipnorm=0.5
            )
        self.trackers = {self._loss_name: keras.metrics.Mean(name=self._loss_name)}
        self.test_trackers = {}
        super().compile(optimizer, **keras_arguments)
        self._objective = self._weighted_loss
        if native != "no":
            learned = self.trainable_variables
            read = [each for part in self.parts.values() for each in part.variables]
            others = [each for each in read if all(each is not one for one in learned)]
            self._objective = as_native(self._weighted_loss, learned, others, native)

    @property
    def objectives(self) -> dict[str, Any]:
        """What the network learns by."""
        return {"denoising": self.denoising}

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of descent on the denoising loss of a batch."""
        noised = self._noised(data, self.training_noise, self.denoising.untold)
        weights = level_weights(self.denoising, noised[2])[:, 0]
        loss = backend.descend(
            lambda: self._objective(weights, *noised), self.optimizer, self.trainable_variables
        )
        return self._track({self._loss_name: loss}, noised[0])

    def test_step(self, data: Any) -> dict[str, Any]:
        """The denoising loss of held-out shapes, whose categories are all told."""
        noised = self._noised(data, self.sampling_noise, 0.0)
        return self._track({self._loss_name: ops.mean(self._loss(*noised))}, noised[0])

    def _weighted_loss(self, weights: Any, *noised: Any) -> tuple[Any, Any]:
        """What is descended, and the mean loss of the batch."""
        losses = self._loss(*noised)
        return ops.mean(weights * losses), ops.stop_gradient(ops.mean(losses))

    @property
    def _loss_name(self) -> str:
        return {"odds": "cross_entropy", "energy": "gradient_error"}[self.denoising.learns]

    @property
    def _loss(self) -> Any:
        return getattr(self.conditional, self._loss_name)
