"""Damaged mesh files by the hundred thousand: each is read, or refused in time and memory.

    python benchmarks/fuzz_files.py --count=200000

Small files are written in every format and option, and a few bytes of each are changed, lost,
repeated, or replaced by numbers that mean something to a parser. It is a finding when

- an error other than MeshError leaves the reader, or the process dies,
- one file takes longer than --seconds, or more memory than --memory MiB above the start,
- a file is read where the strict readers beside this script refuse it, or has other triangles,
- what is read is no clean mesh.

What the package refuses and the strict reader takes is counted, and no finding.

Findings are kept in --keep with the reason in their names. The last line is the count.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import os
import re
import resource
import signal
import struct
import tempfile
import time
from pathlib import Path

import numpy as np
from strict_gltf import READERS
from strict_readers import RefusedError

from descnet3d.datasets.mesh_files import MeshError, read_mesh
from descnet3d.datasets.mesh_writers import save
from descnet3d.shapes.mesh import Mesh
from descnet3d.shapes.surfaces import from_occupancy

TOKENS = [
    b"-1", b"0", b"1", b"99999", b"4294967295", b"9223372036854775807", b"nan", b"inf", b"1e999",
    b"\n", b" ", b"\\\n", b"#", b"/", b"f", b"v", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f", b"-",
    b"1e30", b"0.5", b"[", b"{}", b"null", b'""', b"true", b"end_header", b"OFF", b"vertex",
]  # fmt: skip


def seeds() -> list[tuple[str, bytes]]:
    """Small files, with their endings."""
    import trimesh

    grid = np.zeros((3, 3, 3))
    grid[1, 1, :2] = 1
    mesh = from_occupancy(grid)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for ending in (".off", ".obj", ".ply", ".stl", ".glb"):
            found.append((ending, save(mesh, Path(folder) / f"a{ending}").read_bytes()))
    box = trimesh.creation.box()
    for ending, options in (
        (".ply", {"encoding": "ascii"}),
        (".ply", {"encoding": "binary"}),
        (".obj", {}),
        (".off", {}),
        (".glb", {}),
    ):
        content = box.export(file_type=ending[1:], **options)
        found.append((ending, content.encode() if isinstance(content, str) else content))
    found.append((".stl", box.export(file_type="stl_ascii").encode()))
    square = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
    found += [
        (".off", f"COFF\n4 2 0\n{square}3 0 1 2 255 0 0\n3 0 2 3\n".encode()),
        (".obj", b"v 0 0 0\nv 1 0 0\nv 1 1 0\nf -3/1 -2//2 \\\n -1/1/1\ng x\n"),
        (
            ".ply",
            b"ply\nformat binary_big_endian 1.0\nelement vertex 4\nproperty float x\n"
            b"property float y\nproperty float z\nelement face 2\n"
            b"property list uchar int vertex_indices\nend_header\n"
            + np.array(square.split(), ">f4").tobytes()
            + struct.pack(">B4iB3i", 4, 0, 1, 2, 3, 3, 0, 1, 2),
        ),
        (
            ".ply",
            f"ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\n"
            f"property float z\nelement tristrips 1\nproperty list int int vertex_indices\n"
            f"end_header\n{square}5 0 1 2 -1 3\n".encode(),
        ),
    ]
    found += [
        (".off", f"nOFF\n3\n4 2\n{square}\n4 0 1 2 3\n3 0 1 3 0.5 0.5 0.5 1\n".encode()),
        (".off", b"4OFF 4 1 0 0 0 0 2\t2 0 0 2 # c\n2 2 0 2 0 2 0 1\n\n4 0 1 2 3\n"),
        (".off", b"STNOFF\r\n3 1 0\r\n0 0 0 0 0 1 0 0\r\n1 0 0 0 0 1 0 0\r\n"
                 b"0 1 0 0 0 1 0 0\r\n3 0 1 2\r\n"),
        (".obj", b"\xef\xbb\xbfo a b\n"
                 b"\tv 0 0 0 1\n v 1 0 0\nv 1 1 0 .5 .5 .5\nf -1 -2 -3\nv 0 1 0\n"
                 b"vt 0 0\nf\t1/1 2/1 \\ \n 4/1 # 5\n"),
        (
            ".ply",
            b"ply\r\nformat binary_little_endian 1.0\r\ncomment a\r\nelement face 2\r\n"
            b"property list uchar uint vertex_index\r\nproperty list uchar float texcoord\r\n"
            b"element vertex 4\r\nproperty double x\r\nproperty uchar red\r\nproperty double y\r\n"
            b"property double z\r\nelement edge 0\r\nproperty int a\r\nend_header\r\n"
            + struct.pack("<B4IB2f", 4, 0, 1, 2, 3, 2, 0.5, 0.5)
            + struct.pack("<B3IB", 3, 0, 1, 3, 0)
            + b"".join(struct.pack("<dBdd", x, 7, y, 0) for x in (0, 1) for y in (x, 1 - x)),
        ),
        (".stl", b"Solid a vertex\nFACET normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\n"
                 b"vertex 1 1 0\nend loop\nend facet\n\ncolor 1 0 0\n"
                 b"facet normal 0 0 1\nouter loop\n"
                 b"vertex 0 0 0\nvertex 1 1e0 0\nvertex 0 1 0\nendloop\nendfacet\n"),
        (".stl", b"x".ljust(80) + struct.pack("<I12fH3s", 1, *range(10), 0, 0, 3, b"abc")),
        (".glb", _scene()),
    ]  # fmt: skip
    for _, content in found[:]:
        if content[:4] == b"glTF":
            length = struct.unpack_from("<I", content, 12)[0]
            document = json.loads(content[20 : 20 + length])
            document["buffers"][0]["uri"] = "data:application/octet-stream;base64," + _base64(
                content[28 + length :]
            )
            found.append((".gltf", json.dumps(document).encode()))
    return found


def _scene() -> bytes:
    """A fan, a strip and a sparse part of whole numbers, in nodes that turn and stretch them."""
    corners = struct.pack("<12b", 0, 0, 0, 127, 0, 0, 127, 127, 0, 0, 127, 0)
    binary = (
        corners + struct.pack("<4B4H", 0, 1, 2, 3, 0, 1, 3, 2) + struct.pack("<H2x3b", 2, 9, 9, 9)
    )
    place = {"componentType": 5120, "normalized": True, "count": 4, "type": "VEC3", "bufferView": 0}
    sparse = {
        "count": 1,
        "indices": {"bufferView": 3, "componentType": 5123},
        "values": {"bufferView": 4},
    }
    document = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"children": [1, 2], "rotation": [0, 0, 0.6, 0.8], "scale": [2, 1, 1]},
                  {"mesh": 0, "matrix": [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 3, 0, 5, 6, 7, 1]},
                  {"mesh": 1, "translation": [0.5, 0, 0]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "mode": 6}]},
                   {"primitives": [{"attributes": {"POSITION": 3}, "indices": 2, "mode": 5}]}],
        "accessors": [place, {"componentType": 5121, "count": 4, "type": "SCALAR", "bufferView": 1},
                      {"componentType": 5123, "count": 4, "type": "SCALAR", "bufferView": 2},
                      {**place, "sparse": sparse}],
        "bufferViews": [{"buffer": 0, "byteOffset": start, "byteLength": size}
                        for start, size in ((0, 12), (12, 4), (16, 8), (24, 2), (28, 3))],
        "buffers": [{"byteLength": len(binary)}],
    }  # fmt: skip
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _base64(content: bytes) -> str:
    import base64

    return base64.b64encode(content).decode()


def mutated(content: bytes, generator: np.random.Generator) -> bytes:
    for _ in range(1 + (generator.random() < 0.3)):
        place = int(generator.integers(0, len(content) + 1))
        # Headers are short, and most of what can go wrong goes wrong there.
        if generator.random() < 0.4:
            place = min(place, int(generator.integers(0, 300)))
        kind = generator.integers(0, 6)
        if kind == 0:
            content = content[:place] + generator.bytes(1) + content[place + 1 :]
        elif kind == 1:
            content = content[:place] + content[place + int(generator.integers(1, 9)) :]
        elif kind == 2:
            token = TOKENS[generator.integers(0, len(TOKENS))]
            lost = int(generator.integers(0, len(token) + 1))
            content = content[:place] + token + content[place + lost :]
        elif kind == 3:
            stop = place + int(generator.integers(1, 60))
            content = content[:stop] + content[place:]
        elif kind == 4:
            content = content[: max(place, 1)]
        else:
            digits = [match.span() for match in re.finditer(rb"\d+", content[:4000])]
            if digits:
                start, stop = digits[generator.integers(0, len(digits))]
                token = TOKENS[generator.integers(0, 9)]
                content = content[:start] + token + content[stop:]
    return content


def _comparable(corners: np.ndarray, extent: float) -> np.ndarray:
    """Triangles `[t, 3, 3]` that have an area, each from its least corner on, in order."""
    sides = (corners[:, 1:] - corners[:, :1]) / extent
    areas = np.abs(np.cross(sides[:, 0], sides[:, 1])).max(axis=1, initial=0)
    rows = [tuple(map(tuple, one)) for one in corners[areas > 1e-9].tolist()]
    rows = [min(one, one[1:] + one[:1], one[2:] + one[:2]) for one in rows]
    return np.array(sorted(rows)).reshape(-1, 3, 3)


def differs(mesh: Mesh, triangles: list) -> bool:
    """Whether a strict reader's triangles are others than those of a mesh."""
    extent = float(np.ptp(mesh.vertices, axis=0).max())
    found = _comparable(mesh.vertices[mesh.triangles], extent)
    expected = _comparable(np.array(triangles, float).reshape(-1, 3, 3), extent)
    if found.shape == expected.shape and np.allclose(found, expected, 1e-6, 1e-6 * extent):
        return False
    # The strict readers cut polygons into fans, also those that are bent inwards; then areas and
    # moments, which do not depend on how a flat polygon is cut, must be the same.
    first, scale = _moments(found, mesh.vertices.min(axis=0), extent)
    second, _ = _moments(expected, mesh.vertices.min(axis=0), extent)
    return not np.abs(first - second).max() <= 0.02 * scale


def _moments(corners: np.ndarray, origin: np.ndarray, extent: float) -> tuple[np.ndarray, float]:
    corners = (corners - origin) / extent
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    centres = np.concatenate([corners.mean(axis=1), np.ones((len(corners), 1))], axis=1)
    return areas.T @ centres, np.abs(areas).sum()


def finding(path: Path, ending: str, content: bytes, seconds: float) -> str:
    """What is wrong with how one file was taken: "" where nothing is."""
    path.write_bytes(content)
    # Of the processor's time, since others may be at work beside it.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        mesh = read_mesh(path)
    except MeshError:
        return "refused" if _is_refused(ending, content) else "refused alone"
    except MemoryError:
        return "MEMORY"
    except TimeoutError:
        return "TIME"
    except Exception as error:
        return f"ERROR {type(error).__name__}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    clean = np.isfinite(mesh.vertices).all() and len(mesh.triangles) > 0
    clean = clean and 0 <= mesh.triangles.min() <= mesh.triangles.max() < len(mesh.vertices)
    if not clean:
        return "UNCLEAN"
    try:
        triangles = READERS[ending](content)
    except RefusedError:
        return "LENIENT"
    return "DIFFERENT" if differs(mesh, triangles) else "read"


def _is_refused(ending: str, content: bytes) -> bool:
    """Whether the strict reader refuses a file too, or finds no surface in it."""
    try:
        corners = np.array(READERS[ending](content), float).reshape(-1, 3, 3)
    except RefusedError:
        return True
    extent = np.ptp(corners.reshape(-1, 3), axis=0).max() if corners.size else 1.0
    # NaN, and coordinates beyond 1e100, are refused by the package alone.
    return not 0 < extent < 1e90 or not len(_comparable(corners, extent))


def _overdue(*_) -> None:
    raise TimeoutError


def work(first: int, count: int, options, results, receiver) -> None:
    receiver.close()  # so that it ends where whoever started it has ended
    signal.signal(signal.SIGPROF, _overdue)
    every = seeds()
    with open("/proc/self/statm", encoding="ascii") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    limit = taken + options.memory * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    counts: collections.Counter[str] = collections.Counter()
    # In memory: to open a file anew on a disk takes ten times as long as to read it.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        for number in range(first, first + count):
            generator = np.random.default_rng([options.seed, number])
            ending, content = every[generator.integers(0, len(every))]
            content = mutated(content, generator)
            results.put(("at", number))
            word = finding(Path(folder) / f"a{ending}", ending, content, options.seconds)
            counts[f"{ending} {word}"] += 1
            if (
                word.isupper()
                or word.startswith("ERROR")
                or (options.keep_refused and "alone" in word)
            ):
                options.keep.mkdir(parents=True, exist_ok=True)
                name = f"{number}-{word.replace(' ', '_')}{ending}"
                (options.keep / name).write_bytes(content)
    results.put(("done", counts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--memory", type=int, default=512, help="MiB above the start")
    parser.add_argument("--keep", type=Path, default=Path("fuzz_findings"))
    parser.add_argument("--first", type=int, default=0, help="where an earlier run ended")
    parser.add_argument("--keep_refused", action="store_true", help="keep what is refused alone")
    options = parser.parse_args()
    context = multiprocessing.get_context("fork")
    counts: collections.Counter[str] = collections.Counter()
    started, done = time.perf_counter(), options.first
    while done < options.first + options.count:
        receiver, sender = context.Pipe(duplex=False)
        some = min(5000, options.first + options.count - done)
        process = context.Process(
            target=work, args=(done, some, options, _Sender(sender), receiver)
        )
        process.start()
        sender.close()
        at, finished = done - 1, False
        while True:
            try:
                # Python's own signals wait for as long as numpy does.
                if not receiver.poll(60 * options.seconds):
                    process.kill()
                kind, value = receiver.recv()
            except EOFError:
                break
            if kind == "at":
                at = value
            else:
                counts += value
                finished = True
        process.join()
        if not finished:
            counts[f"CRASHES (number {at})"] += 1
        done = done + some if finished else at + 1
        rate = (done - options.first) / (time.perf_counter() - started)
        print(f"{done} files, {rate:.0f} a second", flush=True)
    for word, number in sorted(counts.items()):
        print(f"{word}: {number}")
    bad = sum(number for word, number in counts.items() if re.search("[A-Z]{4}", word))
    print(f"{done - options.first} files, {bad} findings")


class _Sender:
    def __init__(self, connection):
        self._connection = connection

    def put(self, value) -> None:
        self._connection.send(value)


if __name__ == "__main__":
    main()
