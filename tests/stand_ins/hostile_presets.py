"""Presets that somebody damaged, or made to do harm: each kind by its name."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Damage = Callable[[Path], Any]


def _config(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Changes what the config says."""

    def damage(folder: Path) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        change(config)
        path.write_text(json.dumps(config))

    return damage


def _text(content: str | bytes) -> Damage:
    """Puts something else in the place of the config."""
    content = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / "config.json").write_bytes(content)


def _layer(**changes: Any) -> Damage:
    """Changes the settings of the network's convolution."""
    return _config(lambda config: _layers(config)[1]["config"].update(changes))


def _layers(config: dict[str, Any]) -> list[dict[str, Any]]:
    return config["model"]["network"]["config"]["layers"]


def _weights(write: Callable[[Path, dict[str, np.ndarray]], Any]) -> Damage:
    """Writes other weights, of which the config promises the right checksum."""

    def damage(folder: Path) -> None:
        path = folder / "weights.npz"
        with np.load(path) as file:
            arrays = dict(file)
        path.unlink()
        write(path, arrays)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        _config(lambda config: config["weights"].update(sha256=digest))(folder)

    return damage


def _instead(make: Callable[[Path], Any]) -> Damage:
    """Puts what is no ordinary file in the place of the weights."""

    def damage(folder: Path) -> None:
        (folder / "weights.npz").unlink()
        make(folder / "weights.npz")

    return damage


def _arrays(change: Callable[[dict[str, np.ndarray]], Any]) -> Damage:
    def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
        change(arrays)
        np.savez(path, **arrays)

    return _weights(write)


def _first(change: Callable[[np.ndarray], Any]) -> Damage:
    """Changes the first array."""

    def swap(arrays: dict[str, np.ndarray]) -> None:
        name = sorted(arrays)[0]
        arrays[name] = np.asarray(change(arrays[name]))

    return _arrays(swap)


def _member(content: Callable[[np.ndarray], list[bytes]]) -> Damage:
    """Writes the first array piece by piece, compressed: what is said of it may be wrong."""

    def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
        first, *others = sorted(arrays)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open(f"{first}.npy", "w", force_zip64=True) as member:
                for piece in content(arrays[first]):
                    member.write(piece)
            for name in others:
                archive.writestr(f"{name}.npy", _npy(arrays[name]))

    return _weights(write)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _claims(shape: str, dtype: str = "<f4") -> bytes:
    said = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode()
    said += b" " * (-(len(said) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(said)) + said


def _zeros(size: int) -> list[bytes]:
    return [bytes(2**24)] * (size // 2**24)


def _nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(depth):
        inner = {"config": inner}
    return inner


_HUGE_DENSE = {"units": 10**9}
KINDS: dict[str, Damage] = {
    # more than there is room for
    "array that unpacks to 2 GB": _member(lambda _: [_claims("(536870912,)"), *_zeros(2**31)]),
    "array that claims 4 GiB": _member(lambda _: [_claims("(1073741824,)"), *_zeros(2**24)]),
    "array that claims 2^70 bytes": _member(lambda _: [_claims("(2**40, 2**30)"), b"x"]),
    "array with 2 GB behind it": _member(lambda first: [_npy(first), *_zeros(2**31)]),
    "header of 2 GB": _member(
        lambda _: [b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31), *_zeros(2**31)]
    ),
    "header of a deep tuple": _member(lambda _: [_claims("(" * 3000 + ")" * 3000)]),
    "a billion units": _config(lambda config: _layers(config)[-1]["config"].update(_HUGE_DENSE)),
    "a billion filters": _layer(filters=10**9),
    "a kernel of a million": _layer(kernel_size=[10**6] * 3, padding="same"),
    "a billion parameters promised": _config(lambda config: config.update(parameters=10**9)),
    "fewer parameters promised": _config(lambda config: config.update(parameters=7)),
    "a grid of a million": _config(lambda config: config.update(size=[10**6] * 3)),
    "another grid": _config(lambda config: config.update(size=[16] * 3)),
    "a config of 20 MB": _text(b'{"format": 1, "a": "' + b"x" * 20_000_000 + b'"}'),
    # weights
    "an .npy for weights": _weights(lambda path, arrays: path.write_bytes(_npy(np.ones(3)))),
    "text for weights": _weights(lambda path, arrays: path.write_text("<html>")),
    "no weights": lambda folder: (folder / "weights.npz").unlink(),
    "weights that never end": _instead(lambda path: path.symlink_to("/dev/zero")),
    "a pipe for weights": _instead(os.mkfifo),
    "weights cut short": lambda folder: (folder / "weights.npz").write_bytes(
        (folder / "weights.npz").read_bytes()[:-60]
    ),
    "weights cut short, with their checksum": _weights(
        lambda path, arrays: (
            np.savez(path, **arrays),
            path.write_bytes(path.read_bytes()[:-60]),
        )
    ),
    "not a number": _first(lambda array: array * np.nan),
    "infinity": _first(lambda array: array + np.float32(np.inf)),
    "text": _first(lambda array: array.astype(str)),
    "dates": _first(lambda array: array.astype("int64").astype("datetime64[s]")),
    "complex": _first(lambda array: array.astype("complex64")),
    "integers": _first(lambda array: array.astype("int32")),
    "booleans": _first(lambda array: array > 0),
    "objects": _weights(
        lambda path, arrays: np.savez(path, **{k: v.astype(object) for k, v in arrays.items()})
    ),
    "records": _first(lambda array: array.astype([("a", "f4")])),
    "another shape": _first(lambda array: array[..., :1]),
    "an array too few": _arrays(lambda arrays: arrays.pop(sorted(arrays)[-1])),
    "an array too many": _arrays(lambda arrays: arrays.update({"999/more": np.ones(3)})),
    "a strange compression": _weights(
        lambda path, arrays: zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA).writestr("a.npy", b"x")
    ),
    # JSON
    "an empty config": _text(""),
    "half a config": _text('{"format": 1, "model": {'),
    "a list for a config": _text("[1, 2]"),
    "no UTF-8": _text(b'{"format": "\xff\xfe"}'),
    "a nest of lists": _text("[" * 200_000),
    "a nest within the config": _config(
        lambda config: config["model"].update(network=_nested(300))
    ),
    "a number of 10,000 digits": _text('{"format": 1' + "0" * 10_000 + "}"),
    "weights null": _config(lambda config: config.update(weights=None)),
    "weights.file 3": _config(lambda config: config["weights"].update(file=3)),
    "weights.file outside": _config(lambda config: config["weights"].update(file="../../x")),
    "weights.sha256 a list": _config(lambda config: config["weights"].update(sha256=[])),
    "parameters null": _config(lambda config: config.update(parameters=None)),
    "parameters true": _config(lambda config: config.update(parameters=True)),
    "scores a list": _config(lambda config: config.update(scores=[])),
    "task 5": _config(lambda config: config.update(task=5)),
    "a category that rings": _config(lambda config: config.update(category="a\x1b]0;b\x07")),
    "model a list": _config(lambda config: config.update(model=[1])),
    "class a list": _config(lambda config: config["model"].update({"class": ["x"]})),
    "network null": _config(lambda config: config["model"].update(network=None)),
    "network of nothing": _config(lambda config: config["model"].update(network={})),
    "layers that are numbers": _config(
        lambda config: config["model"]["network"]["config"].update(layers=[1, 2, 3])
    ),
    "voxel_mean text": _config(lambda config: config["model"].update(voxel_mean="dark")),
    "reference_std zero": _config(lambda config: config["model"].update(reference_std=0)),
    "sampling a list": _config(lambda config: config["model"].update(sampling=[1])),
    "sampling.num_steps text": _config(
        lambda config: config["model"]["sampling"].update(num_steps="many")
    ),
    "training.recipe 3": _config(lambda config: config.update(training={"recipe": 3})),
    "recipe.ratio text": _config(
        lambda config: config.update(training={"recipe": {"ratio": "half"}})
    ),
    "requires a list": _config(lambda config: config.update(requires=[])),
    # what would run
    "a lambda": _config(
        lambda config: _layers(config)[1].update(
            class_name="Lambda", config={"name": "x", "function": {"class_name": "__lambda__"}}
        )
    ),
    "a function of os": _layer(activation={"module": "os", "class_name": "system", "config": {}}),
    "a module that is a number": _layer(activation={"module": 3, "class_name": "x", "config": {}}),
}
