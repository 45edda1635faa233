"""Random meshes, written by other programs' writers and by plain ones, come back as they are."""

from __future__ import annotations

import gzip
import json
import struct

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from descnet3d.datasets.mesh_files import MeshError, read_mesh

trimesh = pytest.importorskip("trimesh")


@st.composite
def polygons(draw):
    """Vertices, and faces of three to five corners."""
    count = draw(st.integers(5, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vertices = np.round(generator.normal(size=(count, 3)), 3)
    most = draw(st.sampled_from([3, 4, 5]))
    faces = [
        generator.permutation(count)[: generator.integers(3, most + 1)].tolist()
        for _ in range(draw(st.integers(1, 8)))
    ]
    # Those that are flat, and bent inwards, are no fans; they have a test of their own.
    return vertices, [face for face in faces if len(face) == 3 or not is_flat(vertices[face])] or [
        [0, 1, 2]
    ]


def is_flat(points) -> bool:
    away = points - points.mean(axis=0)
    return np.abs(away @ np.linalg.svd(away)[2][2]).max() < 0.03 * np.ptp(points, axis=0).max()


def triangles_of(vertices, faces) -> list:
    """The corners of all fans, each from its smallest on."""
    found = []
    for face in faces:
        for second, third in zip(face[1:-1], face[2:], strict=True):
            corners = np.round(vertices[[face[0], second, third]], 4).tolist()
            first = corners.index(min(corners))
            found.append(corners[first:] + corners[:first])
    return sorted(found)


def assert_same(content, name, folder, vertices, faces):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    mesh = read_mesh(path)
    found = triangles_of(mesh.vertices, mesh.triangles.tolist())
    expected = triangles_of(vertices, faces)
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def lines(rows) -> list[str]:
    return [" ".join(map(str, row)) for row in rows]


@settings(max_examples=100, deadline=None)
@given(polygons(), st.data())
def test_off_files_of_every_kind(tmp_path_factory, mesh, data):
    vertices, faces = mesh
    flags = data.draw(st.sampled_from(["", "ST", "C", "N", "NC", "CN", "STCN", "NCST", "4", "C4"]))
    extra = [0.5] * (3 * ("N" in flags) + 4 * ("C" in flags) + 2 * ("ST" in flags))
    rows = [[*place, *([1.0] if "4" in flags else []), *extra] for place in vertices.tolist()]
    body = lines(rows)
    body += lines([[len(face), *face] for face in faces])
    if data.draw(st.booleans()):  # colours on some faces
        body[-1] += " 255 0 0"
    word = data.draw(st.sampled_from([f"{flags}OFF", f"{flags}OFF".lower()]))
    if not flags and data.draw(st.booleans()):
        word = ""
    counts = data.draw(st.sampled_from(["{} {} 0", "{} {}", "{}\n{}\n0", "{} {}\n0"]))
    text = "\n".join([word, counts.format(len(vertices), len(faces)), *body]) + "\n"
    text = text.replace("\n", data.draw(st.sampled_from(["\n", "\r\n", "\r", " # a\n", "\n\n"])))
    folder = tmp_path_factory.mktemp("off")
    assert_same(text, "a.off", folder, vertices, faces)
    assert_same(gzip.compress(text.encode()), "a.off.gz", folder, vertices, faces)


@settings(max_examples=100, deadline=None)
@given(polygons(), st.data())
def test_obj_files_of_every_kind(tmp_path_factory, mesh, data):
    vertices, faces = mesh
    blank = data.draw(st.sampled_from([" ", "\t", "   ", " \\\n", " \\ \n "]))
    corner = st.sampled_from(["{}", "{}/1", "{}//1", "{}/1/1"])
    body, known = [], 0
    for face in faces:  # vertices only when a face needs them
        needed = max(face) + 1
        body += [blank.join(["v", *map(str, place)]) for place in vertices[known:needed].tolist()]
        known = max(known, needed)
        indices = [index - known if data.draw(st.booleans()) else index + 1 for index in face]
        body.append(blank.join(["f", *(data.draw(corner).format(index) for index in indices)]))
    indent = data.draw(st.sampled_from(["", "  ", "\t"]))
    comment = data.draw(st.sampled_from(["", " # f 1 2 3", "# v \\"]))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    start = data.draw(st.sampled_from(["", "\ufeff", "o f 1 2 3\n"]))
    text = start + "".join(f"{indent}{line}{comment}\n" for line in body)
    assert_same(text.replace("\n", end), "a.obj", tmp_path_factory.mktemp("obj"), vertices, faces)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["off", "obj", "ply"]))
def test_flat_faces_that_are_bent_inwards_cover_what_they_enclose(tmp_path_factory, seed, ending):
    generator = np.random.default_rng(seed)
    count = generator.integers(4, 30)
    angles = np.sort(generator.random(count)) * 2 * np.pi
    assume(np.diff(angles, append=angles[0] + 2 * np.pi).max() < 3)
    radii = generator.random(count) + 0.05
    flat = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    after = np.roll(flat, -1, axis=0)
    area = (flat[:, 0] * after[:, 1] - flat[:, 1] * after[:, 0]).sum() / 2
    turn = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    vertices = flat @ turn[:2] + generator.normal(size=3)
    face = np.roll(np.arange(count), generator.integers(count))[:: generator.choice([-1, 1])]
    rows, corners = lines(vertices.tolist()), " ".join(map(str, face.tolist()))
    if ending == "off":
        text = "\n".join(["OFF", f"{count} 1 0", *rows, f"{count} {corners}"])
    elif ending == "obj":
        text = "\n".join([*(f"v {row}" for row in rows), " ".join(["f", *map(str, face + 1)])])
    else:
        header = ["ply", "format ascii 1.0", f"element vertex {count}"]
        header += [f"property double {axis}" for axis in "xyz"]
        header += ["element face 1", "property list uchar int vertex_indices", "end_header"]
        text = "\n".join([*header, *rows, f"{count} {corners}"])
    path = tmp_path_factory.mktemp("bent") / f"a.{ending}"
    path.write_text(text + "\n")
    corners = (mesh := read_mesh(path)).vertices[mesh.triangles]
    areas = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    assert np.isclose(areas.sum() / 2, area, rtol=1e-6)


def test_a_face_with_a_hole_stays_open_and_one_of_very_many_corners_is_refused(tmp_path):
    # A square ring, cut open along a bridge, as modellers write it.
    outer, inner = (
        [(0, 0), (3, 0), (3, 3), (0, 3), (0, 0)],
        [(1, 1), (1, 2), (2, 2), (2, 1), (1, 1)],
    )
    body = "".join(f"v {x} {y} 0\n" for x, y in (*outer[:4], *inner[:4]))
    (tmp_path / "a.obj").write_text(body + "f 1 2 3 4 1 5 6 7 8 5\n")
    corners = (mesh := read_mesh(tmp_path / "a.obj")).vertices[mesh.triangles]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2]
    assert (areas > 0).all() and areas.sum() / 2 == 9 - 1
    comb = "".join(f"v {x} {1 + x % 2} 0\n" for x in range(2000)) + "v 1999 0 0\nv 0 0 0\n"
    (tmp_path / "b.obj").write_text(comb + "f " + " ".join(map(str, range(2002, 0, -1))))
    with pytest.raises(MeshError, match="up to 2002 corners, that are bent inwards"):
        read_mesh(tmp_path / "b.obj")
    comb = "".join(f"v {x} {1 + x % 2} 0\n" for x in range(900)) + "v 899 0 0\nv 0 0 0\n"
    face = "f " + " ".join(map(str, range(902, 0, -1))) + "\n"
    (tmp_path / "c.obj").write_text(comb + 100 * face)
    with pytest.raises(MeshError, match="100 faces"):
        read_mesh(tmp_path / "c.obj")


PLY_TYPES = {
    "float": "f4",
    "double": "f8",
    "uchar": "u1",
    "int": "i4",
    "ushort": "u2",
    "uint": "u4",
}


@settings(max_examples=100, deadline=None)
@given(polygons(), st.data())
def test_ply_files_of_every_kind(tmp_path_factory, mesh, data):
    vertices, faces = mesh
    form = data.draw(st.sampled_from(["ascii", "binary_little_endian", "binary_big_endian"]))
    place = data.draw(st.sampled_from(["float", "double"]))
    told = data.draw(st.sampled_from(["uchar", "int", "ushort"]))
    index = data.draw(st.sampled_from(["int", "uint", "uchar"]))
    is_first = data.draw(st.booleans())  # faces before vertices
    vertex_rows = [[("uchar", 7), *((place, v) for v in row)] for row in vertices.tolist()]
    face_rows = [
        [("float", 0.5), (told, len(face)), *((index, corner) for corner in face), ("uchar", 1)]
        for face in faces
    ]
    elements = [
        (
            [f"element vertex {len(vertices)}", "property uchar red"]
            + [f"property {place} {axis}" for axis in "xyz"],
            vertex_rows,
        ),
        (
            [f"element face {len(faces)}", "property float quality"]
            + [f"property list {told} {index} vertex_index", "property uchar flags"],
            face_rows,
        ),
    ]
    if is_first:
        elements.reverse()
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    header = ["ply", f"format {form} 1.0", "comment end_header is below"]
    header += [line for words, _ in elements for line in words]
    content = (end.join([*header, "end_header"]) + end).encode()
    order = ">" if "big" in form else "<"
    for _, rows in elements:
        for row in rows:
            if form == "ascii":
                content += (" ".join(str(value) for _, value in row) + end).encode()
            else:
                for kind, value in row:
                    content += np.array(value, order + PLY_TYPES[kind]).tobytes()
    folder = tmp_path_factory.mktemp("ply")
    assert_same(content, "a.ply", folder, vertices, faces)
    if form != "ascii":
        (folder / "cut.ply").write_bytes(content[:-1])
        with pytest.raises(MeshError, match="too short"):
            read_mesh(folder / "cut.ply")


@settings(max_examples=60, deadline=None)
@given(polygons(), st.data())
def test_stl_files_of_every_kind(tmp_path_factory, mesh, data):
    vertices, faces = mesh
    triangles = [
        [face[0], *pair] for face in faces for pair in zip(face[1:-1], face[2:], strict=True)
    ]
    corners = vertices[triangles]
    payload = data.draw(st.sampled_from([b"", b"ab", b"solid"]))
    records = b"".join(
        np.zeros(3, "<f4").tobytes()
        + one.astype("<f4").tobytes()
        + struct.pack("<H", len(payload))
        + payload
        for one in corners
    )
    count = len(corners) if payload else data.draw(st.integers(0, len(corners)))
    binary = data.draw(st.sampled_from([b"solid", b"x"])).ljust(80, b"\0")
    folder = tmp_path_factory.mktemp("stl")
    content = binary + struct.pack("<I", count) + records
    assert_same(content, "a.stl", folder, vertices, triangles)
    upper = data.draw(st.booleans())
    facets = [
        f"facet normal 0 0 0\n outer loop\n{rows}\n endloop\nendfacet"
        for rows in ("\n".join(f"  vertex {x} {y} {z}" for x, y, z in one) for one in corners)
    ]
    close = data.draw(st.sampled_from(["endsolid a", "end solid", ""]))
    text = "\n".join(["solid facet vertex", *facets, close]) + "\n"
    assert_same(text.upper() if upper else text, "b.stl", folder, vertices, triangles)


@settings(max_examples=60, deadline=None)
@given(polygons(), st.sampled_from(["off", "obj", "ply", "stl", "stl_ascii", "glb"]))
def test_what_trimesh_writes(tmp_path_factory, mesh, kind):
    vertices, faces = mesh
    triangles = [
        [face[0], *pair] for face in faces for pair in zip(face[1:-1], face[2:], strict=True)
    ]
    written = trimesh.Trimesh(vertices, triangles, process=False).export(file_type=kind)
    name = f"a.{kind.removesuffix('_ascii')}"
    assert_same(written, name, tmp_path_factory.mktemp("trimesh"), vertices, triangles)


@settings(max_examples=60, deadline=None)
@given(polygons(), st.data())
def test_gltf_files_of_every_kind(tmp_path_factory, mesh, data):
    vertices, faces = mesh
    mode = data.draw(st.sampled_from([4, 5, 6]))
    kind, number = data.draw(st.sampled_from([("<u1", 5121), ("<u2", 5123), ("<u4", 5125)]))
    if mode == 4:
        parts = [[c for face in faces for p in zip(face[1:-1], face[2:], strict=True)
                  for c in (face[0], *p)]]  # fmt: skip
        expected = faces
    else:
        parts = faces
        expected = faces
        if mode == 5:
            expected = [
                [face[i], face[i + 1 + i % 2], face[i + 2 - i % 2]]
                for face in faces
                for i in range(len(face) - 2)
            ]
    stride = data.draw(st.sampled_from([12, 16, 20]))
    points = np.zeros((len(vertices), stride // 4), "<f4")
    points[:, :3] = vertices
    binary, views, accessors = points.tobytes(), [], []
    views.append({"buffer": 0, "byteLength": len(binary), "byteStride": stride})
    accessors.append(
        {"bufferView": 0, "componentType": 5126, "count": len(vertices), "type": "VEC3"}
    )
    for part in parts:
        binary += b"\0" * (-len(binary) % 4)
        indices = np.array(part, kind).tobytes()
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(indices)})
        accessors.append(
            {
                "bufferView": len(views) - 1,
                "componentType": number,
                "count": len(part),
                "type": "SCALAR",
            }
        )
        binary += indices
    document = {
        "asset": {"version": "2.0"},
        "nodes": [{"mesh": 0}],
        "meshes": [
            {
                "primitives": [
                    {"attributes": {"POSITION": 0}, "indices": 1 + index, "mode": mode}
                    for index in range(len(parts))
                ]
            }
        ],
        "buffers": [{"byteLength": len(binary), "uri": "a%20b.bin"}],
        "bufferViews": views,
        "accessors": accessors,
    }
    if data.draw(st.booleans()):
        document["scenes"] = [{"nodes": [0]}]
    folder = tmp_path_factory.mktemp("gltf")
    (folder / "a b.bin").write_bytes(binary)
    assert_same(json.dumps(document), "a.gltf", folder, vertices, expected)
    (folder / "a b.bin").write_bytes(binary[:-1])
    with pytest.raises(MeshError, match="cut short"):
        read_mesh(folder / "a.gltf")
