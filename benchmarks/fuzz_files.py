"""Damaged mesh files by the hundred thousand: each is read, or refused in time and memory.

    python benchmarks/fuzz_files.py --count=200000

Small files are written in every format and option, and a few bytes of each are changed, lost,
repeated, or replaced by numbers that mean something to a parser. It is a finding when

- an error other than MeshError leaves the reader, or the process dies,
- one file takes longer than --seconds, or more memory than --memory MiB above the start,
- a file is read where a strict reader of few lines, written for this script alone, refuses it:
  one that counts the words of text formats and the bytes of binary ones, or
- what is read is no clean mesh.

Findings are kept in --keep with the reason in their names. The last line is the count.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import re
import resource
import signal
import struct
import tempfile
import time
from pathlib import Path

import numpy as np

from descnet3d.datasets.mesh_files import MeshError, read_mesh
from descnet3d.datasets.mesh_writers import save
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
    for _, content in found[:]:
        if content[:4] == b"glTF":
            length = struct.unpack_from("<I", content, 12)[0]
            document = json.loads(content[20 : 20 + length])
            document["buffers"][0]["uri"] = "data:application/octet-stream;base64," + _base64(
                content[28 + length :]
            )
            found.append((".gltf", json.dumps(document).encode()))
    return found


def _base64(content: bytes) -> str:
    import base64

    return base64.b64encode(content).decode()


def mutated(content: bytes, generator: np.random.Generator) -> bytes:
    for _ in range(generator.integers(1, 3)):
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


def strictly(ending: str, content: bytes) -> bool:
    """Whether a strict reader of few lines takes a file; True where it has no say."""
    if ending == ".off":
        return _strict_off(content)
    if ending == ".ply" and b"format ascii" in content[:200]:
        return _strict_ply(content)
    if ending == ".obj":
        return _strict_obj(content)
    if ending == ".stl" and content.lstrip()[:5].lower() != b"solid":
        return len(content) >= 84 + 50 * struct.unpack_from("<I", content, 80)[0]
    if ending == ".glb" and content[:4] == b"glTF":
        return len(content) >= struct.unpack_from("<I", content, 8)[0]
    return True


def _text(content: bytes) -> list[list[str]]:
    text = content.decode("latin-1").removeprefix("ï»¿")
    text = re.sub(r"#[^\n]*", "", text.replace("\r\n", "\n").replace("\r", "\n"))
    return [line.split() for line in text.split("\n") if line.split()]


def _strict_off(content: bytes) -> bool:
    words = [word for line in _text(content) for word in line]
    head = re.match(r"(?i)((st|c|n|4)*)OFF(.*)", words[0]) if words else None
    if head:
        words = [head[3], *words[1:]] if head[3] else words[1:]
    try:
        vertices, faces = int(words[0]), int(words[1])
        [float(word) for word in words]
    except (ValueError, IndexError):
        return False
    return len(words) - 2 >= 3 * vertices + faces


def _strict_ply(content: bytes) -> bool:
    header, _, body = content.partition(b"end_header")
    elements = re.findall(rb"element\s+\S+\s+(\d+)((?:\s+property[^\n\r]*)*)", header)
    numbers = body.split()
    least = sum(int(count) * len(rows.split(b"property")[1:]) for count, rows in elements)
    try:
        [float(word) for word in numbers]
    except ValueError:
        return False
    return len(numbers) >= least


def _strict_obj(content: bytes) -> bool:
    joined = re.sub(rb"\\[ \t]*\n", b" ", re.sub(rb"#[^\n]*", b"", content.replace(b"\r", b"\n")))
    lines = _text(joined)
    vertices = [line for line in lines if line[0] == "v"]
    try:
        for line in vertices:
            if len([float(word) for word in line[1:]]) < 3:
                return False
        for line in lines:
            if line[0] in ("f", "fo"):
                corners = [int(word.split("/")[0]) for word in line[1:]]
                if len(corners) < 3 or any(not 0 < abs(one) <= len(vertices) for one in corners):
                    return False
    except ValueError:
        return False
    return True


def finding(path: Path, ending: str, content: bytes, seconds: float) -> str:
    """What is wrong with how one file was taken: "" where nothing is."""
    path.write_bytes(content)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        mesh = read_mesh(path)
    except MeshError:
        return "refused"
    except MemoryError:
        return "MEMORY"
    except TimeoutError:
        return "TIME"
    except Exception as error:
        return f"ERROR {type(error).__name__}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    clean = np.isfinite(mesh.vertices).all() and len(mesh.triangles) > 0
    clean = clean and 0 <= mesh.triangles.min() <= mesh.triangles.max() < len(mesh.vertices)
    if not clean:
        return "UNCLEAN"
    return "read" if strictly(ending, content) else "LENIENT"


def _overdue(*_) -> None:
    raise TimeoutError


def work(first: int, count: int, options, results) -> None:
    signal.signal(signal.SIGALRM, _overdue)
    every = seeds()
    with open("/proc/self/statm", encoding="ascii") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    limit = taken + options.memory * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            generator = np.random.default_rng([options.seed, number])
            ending, content = every[generator.integers(0, len(every))]
            content = mutated(content, generator)
            results.put(("at", number))
            word = finding(Path(folder) / f"a{ending}", ending, content, options.seconds)
            counts[f"{ending} {word}"] += 1
            if word.isupper() or word.startswith("ERROR"):
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
    options = parser.parse_args()
    context = multiprocessing.get_context("fork")
    counts: collections.Counter[str] = collections.Counter()
    started, done = time.perf_counter(), 0
    while done < options.count:
        receiver, sender = context.Pipe(duplex=False)
        some = min(5000, options.count - done)
        process = context.Process(target=work, args=(done, some, options, _Sender(sender)))
        process.start()
        sender.close()
        at, finished = done - 1, False
        while True:
            try:
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
        rate = done / (time.perf_counter() - started)
        print(f"{done} files, {rate:.0f} a second", flush=True)
    for word, number in sorted(counts.items()):
        print(f"{word}: {number}")
    bad = sum(number for word, number in counts.items() if re.search("[A-Z]{4}", word))
    print(f"{done} files, {bad} findings")


class _Sender:
    def __init__(self, connection):
        self._connection = connection

    def put(self, value) -> None:
        self._connection.send(value)


if __name__ == "__main__":
    main()
