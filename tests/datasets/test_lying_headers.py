"""Small files that claim to be huge are refused before the memory for them is taken."""

from __future__ import annotations

import gzip
import io
import json
import resource
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from descnet3d.datasets.shape_files import load_shape

MOST = 32 * 2**20  # bytes, at any time, for files of at most some 100 kB
SQUARE = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
POINTS = np.array(SQUARE.split(), "<f4").tobytes()


def ply(form: str, vertices: int, faces: int, body: bytes, count: str = "uchar") -> bytes:
    return (
        f"ply\nformat {form} 1.0\nelement vertex {vertices}\nproperty float x\nproperty float y\n"
        f"property float z\nelement face {faces}\nproperty list {count} int vertex_indices\n"
        "end_header\n"
    ).encode() + body


def glb(length: int = 0, data: int = 0, **changes) -> bytes:
    """A square, whose accessors, views and buffers say other things than they hold."""
    place = {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"}
    corners = {"bufferView": 1, "componentType": 5123, "count": 6, "type": "SCALAR"}
    document = {
        "asset": {"version": "2.0"},
        "nodes": [{"mesh": 0, **changes.pop("node", {})}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {**place, **changes.pop("place", {})},
            {**corners, **changes.pop("corners", {})},
        ],
        "bufferViews": [
            {"buffer": 0, "byteLength": 48, **changes.pop("view", {})},
            {"buffer": 0, "byteOffset": 48, "byteLength": 12},
        ],
        "buffers": [{"byteLength": 60, **changes.pop("buffer", {})}],
        **changes,
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary = POINTS + struct.pack("<6H", 0, 1, 2, 0, 2, 3)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", data or len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, length or 12 + len(chunks)) + chunks


def npy(shape: tuple[int, ...], body: bytes = b"") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"shape": shape, "fortran_order": False, "descr": "<f4"}
    )
    return file.getvalue() + body


def npz(content: bytes, claimed: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("occupancy.npy", content)
    packed = bytearray(file.getvalue())
    if claimed:
        for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
            struct.pack_into("<I", packed, packed.index(signature) + offset, claimed)
    return bytes(packed)


def mat(shape: tuple[int, ...]) -> bytes:
    """MATLAB 5: one variable of doubles, without its numbers."""
    header = b"MATLAB 5.0".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    dimensions = struct.pack(f"<{len(shape)}i", *shape)
    dimensions += b"\0" * (-len(dimensions) % 8)
    inner = struct.pack("<IIII", 6, 8, 6, 0)
    inner += struct.pack("<II", 5, 4 * len(shape)) + dimensions
    inner += struct.pack("<II", 1, 8) + b"instance" + struct.pack("<II", 9, 2**31 - 8)
    return header + struct.pack("<II", 14, len(inner)) + inner


BILLION = 10**9
INDEX = struct.pack("<B3i", 3, 0, 1, 2)
LIES = {
    "off vertices": (".off", f"OFF\n{BILLION} 1 0\n{SQUARE}3 0 1 2\n".encode()),
    "off faces": (".off", f"OFF\n4 {BILLION} 0\n{SQUARE}3 0 1 2\n".encode()),
    "off corners": (".off", f"OFF\n4 1 0\n{SQUARE}{BILLION} 0 1 2\n".encode()),
    "off more than fits": (".off", f"OFF\n{10**17} {10**17} 0\n{SQUARE}3 0 1 2\n".encode()),
    "off corner": (".off", f"OFF\n4 1 0\n{SQUARE}3 0 1 {BILLION}\n".encode()),
    "obj corner": (".obj", f"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 {BILLION}\n".encode()),
    "obj long number": (".obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 " + b"9" * 50_000),
    "ply vertices": (".ply", ply("binary_little_endian", 4 * BILLION, 1, POINTS + INDEX)),
    "ply faces": (".ply", ply("binary_big_endian", 4, 4 * BILLION, POINTS + INDEX)),
    "ply corners": (
        ".ply",
        ply("binary_little_endian", 4, 1, POINTS + struct.pack("<I3i", 2**32 - 1, 0, 1, 2), "uint"),
    ),
    "ply corners, below 0": (
        ".ply",
        ply("binary_little_endian", 4, 1, POINTS + struct.pack("<i3i", -(2**31), 0, 1, 2), "int"),
    ),
    "ply text vertices": (".ply", ply("ascii", BILLION, 1, f"{SQUARE}3 0 1 2\n".encode())),
    "ply text corners": (".ply", ply("ascii", 4, 1, f"{SQUARE}{BILLION} 0 1 2\n".encode())),
    "stl triangles": (".stl", b"x".ljust(80) + struct.pack("<I", 2**32 - 1) + bytes(50)),
    "stl payload": (".stl", b"x".ljust(80) + struct.pack("<I", 2000) + b"\xff" * 50),
    "glb length": (".glb", glb(length=2**32 - 1)),
    "glb data": (".glb", glb(data=2**32 - 1)),
    "glb buffer": (".glb", glb(buffer={"byteLength": 2**40})),
    "glb buffer elsewhere": (".glb", glb(buffer={"byteLength": 2**29, "uri": "data:;base64,AAAA"})),
    "glb view": (".glb", glb(view={"byteLength": 2**40})),
    "glb count": (".glb", glb(place={"count": 2**31})),
    "glb count, no data": (
        ".glb",
        glb(accessors=[{"componentType": 5126, "count": 2**28, "type": "VEC3"}] * 2),
    ),
    "glb stride": (".glb", glb(view={"byteStride": 2**40})),
    "glb sparse": (
        ".glb",
        glb(place={"sparse": {"count": 2**31, "indices": {"bufferView": 1, "componentType": 5123},
                              "values": {"bufferView": 0}}}),
    ),
    "glb instances": (
        ".glb",
        glb(node={"extensions": {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": 0}}}},
            place={"count": 2**31}),
    ),
    "npy": (".npy", npy((10**4, 10**4, 10**4))),
    "npy, sides that wrap": (".npy", npy((2**33, 2**33, 2**33))),
    "npz": (".npz", npz(npy((1024, 1024, 1024)))),
    "npz, its zip lies too": (".npz", npz(npy((1000, 1000, 1000)), 4 * 10**9 + 200)),
    "mat": (".mat", mat((1000, 1000, 1000))),
    "mat, within its bound": (".mat", mat((600, 600, 600))),
    "binvox": (".binvox", b"#binvox 1\ndim 1024 1024 1024\ndata\n\1\2"),
    "binvox sides": (".binvox", b"#binvox 1\ndim 99999 99999 99999\ndata\n\1\2"),
    "gzip": (".off.gz", gzip.compress(bytes(600 * 2**20), 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused_in_little_memory_and_time(tmp_path, name):
    ending, content = LIES[name]
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no occupied voxel"):  # what comes first is imported first
        (tmp_path / "b.npy").write_bytes(npy((2, 2, 2), bytes(32)))
        load_shape(tmp_path / "b.npy", 8)
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(ValueError):
            load_shape(path, 32)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 10
    # What really is packed may be unpacked up to the largest file that is read.
    assert most < (1200 * 2**20 if name == "gzip" else MOST)


def test_a_matlab_file_that_lies_of_its_length_alone_takes_no_memory(tmp_path):
    """They are set aside by scipy, and not touched; where they cannot be had it is an error."""
    path = tmp_path / "a.mat"
    path.write_bytes(mat((8, 8, 8)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="damaged"):
        load_shape(path, 32)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST / 1024
    with open("/proc/self/statm", encoding="ascii") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**29, limits[1]))
    try:
        with pytest.raises(ValueError, match="damaged"):
            load_shape(path, 32)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
