"""3D DescriptorNets: energy-based models of voxelised shapes, in Keras.

`load` and `list_presets` are the way in; `DescriptorNet`, `AnnealedDescriptor` and `CooperativeNet`
the models; `view` and `meshes` what one looks at them with. Nothing is imported until it is used,
so that `import descnet3d` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from descnet3d.datasets.mesh_writers import save_all as save_meshes
    from descnet3d.energy.settings import (
        AnnealingSettings,
        ChainSettings,
        Denoising,
        EquilibriumMatching,
        LangevinSettings,
        MaximumLikelihood,
    )
    from descnet3d.models.annealed import AnnealedDescriptor
    from descnet3d.models.cooperative import CooperativeNet
    from descnet3d.models.descriptor import DescriptorNet
    from descnet3d.shapes import sheets as view
    from descnet3d.shapes import surfaces as meshes
    from descnet3d.shapes.sheets import save_sheet
    from descnet3d.zoo.presets import list_presets, load

__version__ = "0.2.0"
__all__ = [
    "AnnealedDescriptor",
    "AnnealingSettings",
    "ChainSettings",
    "CooperativeNet",
    "Denoising",
    "DescriptorNet",
    "EquilibriumMatching",
    "LangevinSettings",
    "MaximumLikelihood",
    "__version__",
    "list_presets",
    "load",
    "meshes",
    "save_meshes",
    "save_sheet",
    "view",
]
# The module of each name, and what it is called there; None for the module itself.
_HOMES = {
    "AnnealedDescriptor": ("models.annealed", "AnnealedDescriptor"),
    "AnnealingSettings": ("energy.settings", "AnnealingSettings"),
    "ChainSettings": ("energy.settings", "ChainSettings"),
    "CooperativeNet": ("models.cooperative", "CooperativeNet"),
    "Denoising": ("energy.settings", "Denoising"),
    "DescriptorNet": ("models.descriptor", "DescriptorNet"),
    "EquilibriumMatching": ("energy.settings", "EquilibriumMatching"),
    "LangevinSettings": ("energy.settings", "LangevinSettings"),
    "MaximumLikelihood": ("energy.settings", "MaximumLikelihood"),
    "list_presets": ("zoo.presets", "list_presets"),
    "load": ("zoo.presets", "load"),
    "meshes": ("shapes.surfaces", None),
    "save_meshes": ("datasets.mesh_writers", "save_all"),
    "save_sheet": ("shapes.sheets", "save_sheet"),
    "view": ("shapes.sheets", None),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'descnet3d' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    if module.startswith("models."):
        from descnet3d import startup

        startup.import_keras()
    home = importlib.import_module(f"descnet3d.{module}")
    return home if attribute is None else getattr(home, attribute)


def __dir__() -> list[str]:
    return __all__
