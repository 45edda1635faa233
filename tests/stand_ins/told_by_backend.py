"""What presets say of shapes, and where their dynamics lead, on the backend that Keras runs on.

    KERAS_BACKEND=torch python told_by_backend.py FOLDER...

Each folder of a preset gets `told.npz`.
"""

import sys
from pathlib import Path

import numpy as np

from descnet3d.energy.settings import LangevinSettings
from descnet3d.models.descriptor import DescriptorNet

SETTINGS = LangevinSettings(num_steps=12, step_size=0.1, temperature=0.0)


def told_of(folder):
    """Energies and features of random shapes, and the dynamics' start and end."""
    model = DescriptorNet.from_preset(folder)
    random = np.random.default_rng(0)
    shapes = (random.random((4, *model.grid)) < 0.3).astype("float32")
    start = random.normal(size=(3, *model.grid, 1)).astype("float32")
    end, _ = model.sampler.run(start, SETTINGS)
    told = {"energy": model.energy(shapes), "features": model.features(shapes)}
    return {**told, "start": start, "end": np.asarray(end)}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        np.savez(Path(name) / "told.npz", **told_of(name))
