"""Mesh files: what good ones hold comes through, and what is wrong with the others is named."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descnet3d.datasets import mesh_files
from descnet3d.datasets.mesh_files import MeshError, read_mesh
from descnet3d.datasets.mesh_writers import MESH_ENDINGS, save
from descnet3d.shapes.surfaces import from_occupancy, open3d

SQUARE = "0 0 0\n2 0 0\n2 1 0\n0 1 0\n"
TRIANGLES = "3 0 1 2\n3 0 2 3\n"
PLAIN = f"OFF\n4 2 0\n{SQUARE}{TRIANGLES}"


def read(tmp_path, content, name="a.off"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_mesh(path)


def corners(mesh) -> list:
    """Each triangle as its corners, the smallest first, so that the order of vertices is free."""
    found = []
    for triangle in mesh.vertices[mesh.triangles].tolist():
        first = triangle.index(min(triangle))
        found.append(triangle[first:] + triangle[:first])
    return sorted(found)


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace("OFF\n", "OFF"),
        PLAIN.replace("OFF\n", "OFF "),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", "\n\n  \n"),
        "\ufeff" + PLAIN,
        "# from a CAD program\n" + PLAIN.replace("4 2 0", "4 2 0 # counts"),
        PLAIN.replace(TRIANGLES, "# faces\n" + TRIANGLES),
        PLAIN.replace(" 0\n0 0 0", "\n0 0 0"),  # the number of edges is missing
        PLAIN.rstrip(),
        f"OFF\n4 1 0\n{SQUARE}4 0 1 2 3\n",
        f"OFF\n4 2 0\n{SQUARE}3 0 1 2 255 0 0\n3 0 2 3 255 0 0\n",
        f"OFF\n4 2 0\n{SQUARE}3 0 1 2 255 0 0\n3 0 2 3\n",
        f"OFF\n4 2 0\n{SQUARE}3 0 1 2 3\n3 0 2 3 3\n",  # one number of colour: as 4 corners wide
        f"OFF\n4 4 0\n{SQUARE}2 0 1\n{TRIANGLES}1 3\n",
        f"OFF\n4 4 0\n{SQUARE}{TRIANGLES}3 1 1 2\n3 0 0 0\n",
        f"OFF\n6 3 0\n{SQUARE}1 0 0\n1e30 nan 5\n{TRIANGLES}3 0 4 1\n",  # 0, 4, 1 on one line
        "COFF\n4 2 0\n" + SQUARE.replace("\n", " 10 20 30 255\n") + TRIANGLES,
        "NOFF\n4 2 0\n" + SQUARE.replace("\n", " 0 0 1\n") + TRIANGLES,
    ],
)
def test_the_defects_of_off_files_change_nothing(tmp_path, content):
    mesh = read(tmp_path, content)
    assert mesh.vertices.dtype == np.float64 and mesh.triangles.dtype == np.int32
    assert corners(mesh) == corners(read(tmp_path, PLAIN))
    assert len(mesh.vertices) == 4


def test_faces_of_different_corners_become_fans(tmp_path):
    mesh = read(tmp_path, f"OFF\n5 2 0\n{SQUARE}1 2 0\n5 0 1 2 4 3\n3 0 1 4\n")
    first, second, third = np.moveaxis(mesh.vertices[mesh.triangles], 1, 0)
    areas = np.linalg.norm(np.cross(second - first, third - first), axis=1) / 2
    assert sorted(areas.tolist()) == [0.5, 1, 1.5, 2]


def test_huge_and_tiny_coordinates_come_through(tmp_path):
    for scale in (1e-90, 1e-30, 1e30, 1e90):
        text = " ".join(f"{scale * x} {scale * y} {scale}\n" for x, y in [(0, 0), (1, 0), (0, 1)])
        mesh = read(tmp_path, f"OFF\n3 1 0\n{text}3 0 1 2\n")
        assert np.ptp(mesh.vertices, axis=0).tolist() == [scale, scale, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("solid cube\nfacet normal 0 0 1", "does not begin as an OFF file"),
        ("PK\3\4" + "\0" * 99, "does not begin as an OFF file"),
        ("OFF\n", "does not begin as an OFF file"),
        ("OFF BINARY\n4 2 0\n", "does not begin as an OFF file"),
        (PLAIN.replace("4 2 0", "1000000000 2 0"), "promises 1000000000 vertices.*too short"),
        (PLAIN.replace("4 2 0", f"4 {10**17} 0"), "promises 4 vertices and 1000+ faces.*too short"),
        (PLAIN.replace("4 2 0", "0 0 0"), "has 0 vertices and 0 faces"),
        (PLAIN.replace(TRIANGLES, ""), "ends before them|too short"),
        (PLAIN.replace("3 0 2 3", "3 0 2"), "damaged at face 1"),
        (PLAIN.replace("3 0 2 3", "3 0 2 4"), "corners 0 to 4, and there are only 4 vertices"),
        (PLAIN.replace("3 0 2 3", "3 0 2 -1"), "corners -1 to 2"),
        (PLAIN.replace("3 0 2 3", "3 0 2 1.5"), "not whole numbers"),
        (PLAIN.replace("3 0 2 3", "3 0 2 1e30"), "out of range"),
        (PLAIN.replace("3 0 2 3", "nan 0 2 3"), "damaged at face 1"),
        (PLAIN.replace("3 0 2 3", "inf 0 2 3"), "damaged at face 1"),
        (PLAIN.replace("2 1 0", "2 one 0"), "not a number"),
        (PLAIN.replace("2 1 0", "2 nan 0"), "NaN, infinite or larger"),
        (PLAIN.replace("2 1 0", "2 1e200 0"), "NaN, infinite or larger"),
        (PLAIN.replace("2 1 0", "2 -inf 0"), "NaN, infinite or larger"),
        (f"OFF\n4 1 0\n{SQUARE}3 0 1 1\n", "no triangle with an area"),
        (f"OFF\n4 1 0\n{SQUARE}2 0 1 \n", "no triangle with an area|ends before"),
        ("OFF\n2 1 0\n0 0\n1 1\n3 0 1 1\n", "vertex of 2 coordinates|too short"),
    ],
)
def test_what_is_wrong_with_an_off_file_is_named(tmp_path, content, message):
    with pytest.raises(MeshError, match=rf"a\.off (?s:.)*({message})"):
        read(tmp_path, content)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(PLAIN) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_a_damaged_off_file_is_read_or_refused(tmp_path_factory, place, new, lost):
    content = PLAIN.encode()
    content = content[:place] + new + content[place + lost :]
    try:
        mesh = read(tmp_path_factory.mktemp("off"), content)
    except MeshError as error:
        assert "a.off" in str(error)
    else:
        assert np.isfinite(mesh.vertices).all()
        assert 0 <= mesh.triangles.min() <= mesh.triangles.max() < len(mesh.vertices)


def test_real_meshes_are_read_whole(data_folder):
    for path in sorted((data_folder / "meshes").rglob("*.off")):
        mesh = read_mesh(path)
        counts = path.read_text().split(maxsplit=3)[1:3]
        expected = open3d().io.read_triangle_mesh(str(path))
        assert len(expected.triangles) == int(counts[1])
        bound = np.asarray(expected.vertices)[np.unique(np.asarray(expected.triangles))]
        np.testing.assert_allclose(mesh.vertices.min(axis=0), bound.min(axis=0))
        np.testing.assert_allclose(mesh.vertices.max(axis=0), bound.max(axis=0))
        assert len(mesh.triangles) <= len(expected.triangles)


# --- the other formats ----------------------------------------------------------------------------

OBJ = "mtllib /etc/passwd\nusemtl steel\nv 0 0 0\nv 2 0 0\nv 2 1 0\nv 0 1 0\nvn 0 0 1\n"
PLY = (
    "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\n"
    "property float z\nelement face 2\nproperty list uchar int vertex_indices\nend_header\n"
    f"{SQUARE}{TRIANGLES}"
)


@pytest.mark.parametrize("ending", MESH_ENDINGS)
def test_what_the_package_writes_it_reads(tmp_path, ending):
    grid = np.zeros((5, 5, 5))
    grid[1:3, 1:4, 1:4] = 1
    mesh = read_mesh(save(from_occupancy(grid), tmp_path / f"a{ending}"))
    expected = [[1, 1, 1], [3, 4, 4]] if ending != ".glb" else [[1, 1, -4], [3, 4, -1]]
    np.testing.assert_allclose([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)], expected)
    assert len(mesh.triangles) == 2 * 42


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.obj", OBJ + "f 1//1 2//1 3//1 4//1\n"),
        ("a.obj", OBJ.replace("\n", "\r\n") + "f -4 -3 -2\r\nf -4 -2 -1\r\n"),
        ("a.ply", PLY),
        ("a.ply", PLY.replace("face 2", "face 1").replace(TRIANGLES, "4 0 1 2 3\n")),
    ],
)
def test_squares_of_other_formats(tmp_path, name, content):
    mesh = read(tmp_path, content, name)
    assert sorted(map(tuple, mesh.vertices.tolist())) == [
        (0, 0, 0),
        (0, 1, 0),
        (2, 0, 0),
        (2, 1, 0),
    ]
    assert len(mesh.triangles) == 2


def glb(nodes, **changes) -> bytes:
    """A scene whose only mesh is the triangle (0, 0, 0), (1, 0, 0), (0, 1, 0)."""
    binary = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes()
    binary += np.array([0, 1, 2], "<u4").tobytes()
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": nodes,
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "buffers": [{"byteLength": len(binary)}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 36},
            {"buffer": 0, "byteOffset": 36, "byteLength": 12},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5125, "count": 3, "type": "SCALAR"},
        ],
        **changes,
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def test_the_parts_of_a_scene_stand_where_it_puts_them(tmp_path):
    nodes = [{"children": [1, 2], "scale": [2, 2, 2]}, {"mesh": 0}]
    nodes += [{"mesh": 0, "translation": [5, 0, 1]}]
    mesh = read(tmp_path, glb(nodes), "a.glb")
    assert len(mesh.triangles) == 2
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [12, 2, 2])


def test_a_small_scene_that_names_a_part_very_often_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mesh_files, "MAX_TRIANGLES", 50)
    nodes = [{"children": list(range(1, 101))}, *[{"mesh": 0}] * 100]
    with pytest.raises(MeshError, match="more than 50 triangles"):
        read(tmp_path, glb(nodes), "a.glb")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.glb", b"", "is empty"),
        ("a.glb", glb([{"mesh": 0}])[:70], "cut short"),
        ("a.glb", b"PK\3\4" + bytes(99), "not a .glb file"),
        ("a.glb", glb([{"mesh": 0}], meshes=[]), "names number 0 of 0 meshes"),
        (
            "a.glb",
            glb([{"mesh": 0}], buffers=[{"byteLength": 48, "uri": "../../etc/passwd"}]),
            "keeps its data elsewhere.*passwd",
        ),
        (
            "a.glb",
            glb([{"mesh": 0}], buffers=[{"byteLength": 48, "uri": "https://localhost/a.bin"}]),
            "keeps its data elsewhere",
        ),
        (
            "a.glb",
            glb(
                [{"mesh": 0}],
                accessors=[
                    {"componentType": 5126, "count": 10**9, "type": "VEC3"},
                    {"componentType": 5125, "count": 10**9, "type": "SCALAR"},
                ],
            ),
            "cannot be read",
        ),
        ("a.ply", PLY.replace("vertex 4", "vertex 1000000000"), "promises 10+2 elements"),
        ("a.ply", "OFF\n1 1 1\n", "does not begin as a .ply file"),
        ("a.ply", PLY.replace("3 0 2 3", "3 0 2 9"), "corners 0 to 9"),
        ("a.ply", PLY.split("element face")[0] + "end_header\n" + SQUARE, "points and no faces"),
        ("a.stl", bytes(80) + struct.pack("<I", 10**9) + bytes(50), "promises 10+ triangles"),
        ("a.stl", bytes(80) + struct.pack("<I", 1) + bytes(50), "no triangle with an area"),
        ("a.obj", OBJ + "f 1 2 9\n", "a.obj"),
        ("a.obj", "v 0 0 0\n", "a.obj"),
        ("a.obj", OBJ + "f 1 2\n", "a.obj"),
        ("a.fbx", b"x", "no mesh file"),
    ],
)
def test_what_is_wrong_with_other_files_is_named(tmp_path, name, content, message):
    with pytest.raises(MeshError, match=message):
        read(tmp_path, content, name)


def test_files_that_are_not_there_or_too_large_are_named(tmp_path, monkeypatch):
    with pytest.raises(MeshError, match="there is no file .*none.off"):
        read_mesh(tmp_path / "none.off")
    (tmp_path / "folder.off").mkdir()
    with pytest.raises(MeshError, match="folder.off cannot be read"):
        read_mesh(tmp_path / "folder.off")
    monkeypatch.setattr(mesh_files, "MAX_FILE_BYTES", 20)
    with pytest.raises(MeshError, match="files of more than 20 are not read"):
        read(tmp_path, PLAIN)
