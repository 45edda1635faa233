"""What models of one network and one sampler say of themselves in presets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self

import keras

from descnet3d.models.saving import SavedModel


class OfOneNetwork(SavedModel):
    """A model that is its network, what model space and reference are, and a sampler's settings.

    Attributes:
        sampling_settings: what the sampler's settings are made by, of their fields.
    """

    sampling_settings: ClassVar[Callable[..., Any]]
    network: keras.Model
    voxel_mean: float
    reference_std: float
    sampling: Any

    @property
    def parts(self) -> dict[str, keras.Model]:
        """The networks that the model is made of, by the names that its preset gives them."""
        return {"network": self.network}

    @property
    def settings(self) -> dict[str, Any]:
        """What a preset's config says of the model, beside its networks."""
        return {
            "voxel_mean": self.voxel_mean,
            "reference_std": self.reference_std,
            "sampling": asdict(self.sampling),
        }

    @classmethod
    def of_parts(cls, parts: Mapping[str, keras.Model], settings: Mapping[str, Any]) -> Self:
        """The model of this network and these settings."""
        return cls(
            parts["network"],  # type: ignore[call-arg]
            voxel_mean=settings["voxel_mean"],
            reference_std=settings["reference_std"],
            sampling=cls.sampling_settings(**settings["sampling"]),
            seed=settings.get("seed", 0),
        )
