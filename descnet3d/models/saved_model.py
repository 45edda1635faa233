"""What a model needs to be a preset: it can be written to a folder, and read from one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from descnet3d.arguments import require_positive_integer
from descnet3d.models import preset_config, saving
from descnet3d.models.shape_model import ShapeModel
from descnet3d.shapes.occupancy import as_occupancy


class SavedModel(ShapeModel):
    """A model that is made of named networks and of settings, and of nothing else.

    Attributes:
        preset_class: what its presets call it, a key of `preset_config.CLASSES`.
        preset: the metadata of the preset that the model was loaded from, if any.
    """

    preset_class: str
    preset: dict[str, Any]

    @property
    def parts(self) -> dict[str, keras.Model]:
        """The networks that the model is made of, by the names that its preset gives them."""
        raise NotImplementedError

    @property
    def _settings(self) -> dict[str, Any]:
        """What a preset's config says of the model, beside its networks."""
        raise NotImplementedError

    @classmethod
    def _of_parts(
        cls, parts: Mapping[str, keras.Model], settings: Mapping[str, Any], seed: int = 0
    ) -> Self:
        """The model of these networks and settings."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for Keras' own saving."""
        networks = {
            name: keras.saving.serialize_keras_object(part) for name, part in self.parts.items()
        }
        return {**networks, **self._settings, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """The model of a configuration that `get_config` gave."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in preset_config.CLASSES[cls.preset_class].parts
        }
        return cls._of_parts(parts, config, seed=config["seed"])

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
            "parameters": sum(part.count_params() for part in self.parts.values()),
            "model": {"class": self.preset_class, **self._settings},
        }
        return saving.write(Path(folder), config, self.parts, weights_dtype)

    @classmethod
    def from_preset(cls, folder: str | Path) -> Self:
        """The model of a folder that `save_preset` wrote.

        Raises:
            PresetError: when the folder is not a preset, is damaged, or is of a newer format.
        """
        config = preset_config.read_config(Path(folder))
        parts = saving.read_parts(Path(folder), config)
        try:
            model = cls._of_parts(parts, config["model"])
        except (KeyError, TypeError, ValueError) as error:
            raise preset_config.PresetError(
                f"{Path(folder) / preset_config.CONFIG} describes no model: {error}."
            ) from None
        model.preset = {key: value for key, value in config.items() if key != "model"}
        model.preset["recipe"] = (config.get("training") or config).get("recipe")
        return model

    def _in_batches(self, function: Any, shapes: Any, batch_size: int) -> np.ndarray:
        """What a function of positions gives for all shapes, so many at a time."""
        require_positive_integer("batch_size", batch_size)
        shapes = as_occupancy(shapes, "shapes", self.grid)
        parts = []
        for start in range(0, len(shapes), batch_size):
            part = function(self.to_model_space(shapes[start : start + batch_size]))
            parts.append(ops.convert_to_numpy(ops.stop_gradient(part)))
        return np.concatenate(parts)
