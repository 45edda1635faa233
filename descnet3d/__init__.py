"""3D DescriptorNets: energy-based models of voxelised shapes, in Keras.

`load` and `list_presets` are the way in; `DescriptorNet` is the model. The modules (`view`,
`meshes`, `voxels` and the others) are there as attributes. Nothing is imported until it is used,
so that `import descnet3d` costs nothing.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from descnet3d import grids as grids
    from descnet3d import langevin as langevin
    from descnet3d import meshes as meshes
    from descnet3d import metrics as metrics
    from descnet3d import models as models
    from descnet3d import networks as networks
    from descnet3d import presets as presets
    from descnet3d import view as view
    from descnet3d import voxels as voxels
    from descnet3d.models.descriptor import DescriptorNet
    from descnet3d.presets import list_presets, load

__version__ = "0.1.0"

__all__ = ["DescriptorNet", "__version__", "list_presets", "load"]

_HOMES = {
    "DescriptorNet": "descnet3d.models.descriptor",
    "list_presets": "descnet3d.presets",
    "load": "descnet3d.presets",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _modules():
        return importlib.import_module(f"descnet3d.{name}")
    raise AttributeError(f"module 'descnet3d' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_modules()})


def _modules() -> set[str]:
    return {module.name for module in pkgutil.iter_modules(__path__)}
