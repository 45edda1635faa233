"""Trains small models in two processes or on two replicas, or in one.

    python trained_together.py FOLDER RANK WORLD ENGINE

ENGINE is `processes` (PyTorch), `replicas` (TensorFlow, WORLD virtual devices of one process) or
`hosts` (TensorFlow, WORLD processes that meet at 127.0.0.1). Each process of several trains on its
share of the shapes with PyTorch, and is given all with TensorFlow. FOLDER gets an archive of
weights, figures and chains a process; and, of runs that go on from a checkpoint, all that they end
with beside that of runs that were not stopped.
"""

import json
import os
import sys
from pathlib import Path

FOLDER, RANK, WORLD, ENGINE = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if WORLD > 1 and ENGINE == "hosts":
    workers = [f"127.0.0.1:{port}" for port in json.loads(os.environ["PORTS"])]
    own = {"type": "worker", "index": RANK}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": own})

import keras  # noqa: E402
import numpy as np  # noqa: E402

strategy = None
if WORLD > 1 and ENGINE == "processes":
    import torch

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{FOLDER / 'meeting'}", rank=RANK, world_size=WORLD
    )
elif WORLD > 1:
    import tensorflow as tf

    if ENGINE == "hosts":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        (cpu,) = tf.config.list_physical_devices("CPU")
        devices = [tf.config.LogicalDeviceConfiguration()] * WORLD
        tf.config.set_logical_device_configuration(cpu, devices)
        strategy = tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(WORLD)])

from every_model import boxes, classifier, likelihood  # noqa: E402

from descnet3d.energy.settings import (  # noqa: E402
    ChainSettings,
    LangevinSettings,
    MaximumLikelihood,
)
from descnet3d.models.descriptor import DescriptorNet  # noqa: E402
from descnet3d.training.checkpoints import (  # noqa: E402
    CheckpointError,
    TrainingCheckpoint,
    restore,
)


def without_noise():
    """A model whose training draws no random number, so that two can be compared."""
    model = DescriptorNet(likelihood().model.network, voxel_mean=0.3)
    model.compile(
        keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.5, global_clipnorm=1e-3),
        likelihood=MaximumLikelihood(
            langevin=LangevinSettings(2, 0.05, 0.0), chains=ChainSettings("data")
        ),
    )
    return model


def made(build):
    if strategy is None:
        return build()
    with strategy.scope():
        return build()


def each(variable):
    """The values of a variable on every replica of this process."""
    found = [variable.value] if strategy is None else strategy.experimental_local_results(
        variable.value
    )  # fmt: skip
    return np.array([keras.ops.convert_to_numpy(value) for value in found])


def state_of(model, prefix):
    """All that a resumed run goes on with, and the chains of every replica of this process."""
    state = {name: each(variable) for name, variable in model.training_state.items()}
    return {f"{prefix}_{name.replace('/', '_')}": values for name, values in state.items()}


rows = slice(RANK, None, WORLD) if ENGINE == "processes" else slice(None)
shapes = boxes()[rows]
size = len(shapes)


def train(make, name, until, labels=()):
    """Up to an epoch, from the checkpoint where there is one; the model."""
    model, path = made(make), FOLDER / f"{name}_{WORLD}.npz"
    done = int(restore(model, path).epochs) if path.exists() else 0
    keeper = TrainingCheckpoint(path, every_seconds=0)
    options = {"batch_size": size // 2, "initial_epoch": done, "epochs": until, "verbose": 0}
    model.fit(shapes, *labels, callbacks=[keeper], **options)
    return model


model = made(without_noise)
options = {"batch_size": size, "shuffle": False, "validation_data": shapes}
history = model.fit(shapes, **options, epochs=3, verbose=0).history
noisy = made(lambda: likelihood().model)
if ENGINE == "processes":  # what the first process has is what counts
    noisy.network.variables[0].assign(noisy.network.variables[0] + RANK)
noisy.fit(shapes, batch_size=size, epochs=2, verbose=0)
found = {
    **{f"weights_{index}": weight for index, weight in enumerate(model.get_weights())},
    **{f"noisy_{index}": weight for index, weight in enumerate(noisy.network.get_weights())},
    **dict(history.items()),
    "chains": each(noisy.chains.positions),
}
if WORLD > 1:
    labels = classifier().labels[rows]
    for name, make, given in (
        ("descriptor", lambda: likelihood().model, ()),
        ("classifier", lambda: classifier().model, (labels,)),
    ):
        found |= state_of(train(make, f"{name}_whole", 4, given), f"{name}_whole")
        train(make, f"{name}_stopped", 2, given)
        found |= state_of(train(make, f"{name}_stopped", 4, given), f"{name}_resumed")
    path = FOLDER / "descriptor_whole_2.npz"
    alone = dict(np.load(path))
    for name in made(lambda: likelihood().model).own_state:
        alone[name] = alone[name][0]
    path = FOLDER / f"alone_{RANK}.npz"
    np.savez(path, **alone)
    try:
        restore(made(lambda: likelihood().model), path)
    except CheckpointError as error:
        found["refusal"] = str(error)
np.savez(FOLDER / f"{RANK}_of_{WORLD}.npz", **found)
