"""A model as Keras saves it: networks, what `compile` was told, and the state of its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import keras

from descnet3d.energy import together
from descnet3d.fields import Settings
from descnet3d.models.preset_config import CLASSES
from descnet3d.models.saving import SavedModel

# What Keras calls the state of a generator of random numbers.
_RANDOM = "seed_generator_state"
# An optimizer, and the variables that it moves.
Optimized = tuple[keras.optimizers.Optimizer, Sequence[keras.Variable]]


class KerasModel(SavedModel, keras.Model):
    """A model that a checkpoint, or a file of Keras' own, brings back as it was while it learned.

    Attributes:
        seed: seeds the noise of training.
        training_noise: that noise.
    """

    _together = False
    seed: int
    training_noise: keras.random.SeedGenerator

    def get_config(self) -> dict[str, Any]:
        """The networks and settings, for Keras' own saving."""
        networks = {
            name: keras.saving.serialize_keras_object(part) for name, part in self.parts.items()
        }
        return {**networks, **self.settings, "seed": self.seed, "preset": self.preset}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """The model of a configuration that `get_config` gave."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in CLASSES[cls.preset_class].parts_in(config)
        }
        model = cls.of_parts(parts, config)
        model.preset = dict(config.get("preset") or {})
        return model

    @property
    def objectives(self) -> dict[str, Any]:
        """What `compile` settled on beside Keras' own arguments, by the names that it has there."""
        return {}

    def get_compile_config(self) -> dict[str, Any]:
        """What `compile` was told, for Keras' own saving."""
        config = super().get_compile_config()
        if not config:
            return {}
        # Whether XLA serves is the machine's to say that loads the model; on a CPU it never does.
        config.pop("jit_compile", None)
        told = {
            name: keras.saving.serialize_keras_object(value)
            for name, value in self.objectives.items()
        }
        return {**config, **told}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile the model as the one was that gave the configuration."""
        self.compile(**self._compile_arguments(config))

    @staticmethod
    def _compile_arguments(config: dict[str, Any]) -> dict[str, Any]:
        with keras.saving.custom_object_scope(Settings.kinds):
            return keras.saving.deserialize_keras_object(config)

    @property
    def _run_state(self) -> dict[str, keras.Variable]:
        """What Keras' own saving leaves out of the training state: chains and random states."""
        if not self.compiled:
            return {}
        kept = {*self.parts, *self.optimized}
        state = {
            f"{group}_{position}": variable
            for group, variables in self.state_groups.items()
            if group not in kept
            for position, variable in enumerate(variables)
        }
        seeds = [each for each in self.variables if each.name == _RANDOM]
        return {**state, **{f"seed_{position}": seed for position, seed in enumerate(seeds)}}

    def save_own_variables(self, store: Any) -> None:
        """Keep what a run goes on with beside networks and optimizers."""
        for name, variable in self._run_state.items():
            store[name] = variable

    def load_own_variables(self, store: Any) -> None:
        """Take what a run goes on with, as far as the model was compiled as the saved one was."""
        for name, variable in self._run_state.items():
            if name in store and tuple(store[name].shape) == tuple(variable.shape):
                variable.assign(store[name])

    @property
    def optimized(self) -> dict[str, Optimized]:
        """The optimizers by name, each with the variables that it moves."""
        return {"optimizer": (self.optimizer, self.trainable_variables)}

    @property
    def state_groups(self) -> dict[str, Sequence[keras.Variable]]:
        """The variables that a resumed run needs, in groups by name."""
        optimizers = {name: optimizer.variables for name, (optimizer, _) in self.optimized.items()}
        networks = {name: part.variables for name, part in self.parts.items()}
        return {**networks, **optimizers, "noise": [self.training_noise.state]}

    @property
    def training_state(self) -> dict[str, keras.Variable]:
        """Every variable that a resumed run needs, by a name of its own."""
        return {
            f"{group}/{position}": variable
            for group, variables in self.state_groups.items()
            for position, variable in enumerate(variables)
        }

    @property
    def own_state(self) -> set[str]:
        """What of it each of several workers has for itself: chains and random states."""
        return {
            name
            for name, variable in self.training_state.items()
            if name.startswith("chains/") or variable.name == _RANDOM
        }

    def begin_together(self) -> None:
        """Share what is learned with those that train along, who draw noise of their own.

        `fit` begins so; another call changes nothing.
        """
        workers = together.workers_of(self)
        if workers.count > 1 and not self._together:
            state, own = self.training_state, self.own_state
            workers.begin(
                [variable for name, variable in state.items() if name not in own],
                [state[name] for name in own if state[name].name == _RANDOM],
            )
            self._together = True

    def _maybe_symbolic_build(self, **_: Any) -> None:
        """Nothing: the model is built already, and across hosts Keras fails here (its #20585)."""
