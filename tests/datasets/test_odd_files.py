"""Files as programs and accidents leave them: read as their formats say, or refused by name."""

from __future__ import annotations

import base64
import gzip
import json
import struct

import numpy as np
import pytest

from descnet3d.datasets.mesh_files import MeshError, read_mesh

POINTS = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
FACES = "3 0 1 2\n3 0 2 3\n"
OFF = f"OFF\n4 2 0\n{POINTS}{FACES}"
OBJ = "".join(f"v {line}\n" for line in POINTS.splitlines())
OBJ_FACES = "f 1 2 3\nf 1 3 4\n"
PLY_HEADER = (
    "ply\nformat {} 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
)
PLY = PLY_HEADER + "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
STRIPS = PLY_HEADER + "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
TEXT = PLY.format("ascii") + POINTS + FACES
PLACES = np.array(POINTS.split(), "<f4")
BINARY = (
    PLY.format("binary_little_endian").encode()
    + PLACES.tobytes()
    + struct.pack("<B3iB3i", 3, 0, 1, 2, 3, 0, 2, 3)
)
FACETS = [
    f"facet normal 0 0 1\nouter loop\nvertex {a}\nvertex {b}\nvertex {c}\nendloop\nendfacet\n"
    for a, b, c in (("0 0 0", "1 0 0", "1 1 0"), ("0 0 0", "1 1 0", "0 1 0"))
]
STL = "solid a\n" + "".join(FACETS) + "endsolid a\n"
RECORDS = b"".join(
    struct.pack("<12fH", 0, 0, 0, *PLACES.reshape(4, 3)[corners].ravel(), 0)
    for corners in ([0, 1, 2], [0, 2, 3])
)


def stl(count: int, records: bytes) -> bytes:
    return b"x".ljust(80) + struct.pack("<I", count) + records


READ = {  # all of them are one square
    "byte order mark.off": b"\xef\xbb\xbf" + OFF.encode(),
    "points and edges as faces.off": OFF.replace("4 2 0", "4 4 0") + "2 0 1\n1 3\n",
    "form feed.off": OFF.replace(FACES, "\x0c" + FACES),
    "no edges, on one line.off": "OFF 4 2 -1 " + (POINTS + FACES).replace("\n", " "),
    "colours of some faces.off": OFF.replace("3 0 1 2", "3 0 1 2 0.1 0.2 0.3 1"),
    "faces first.obj": OBJ_FACES + OBJ,
    "comments glued on.obj": OBJ + OBJ_FACES.replace("\n", "#c\n"),
    "names that are no UTF-8.obj": b"o St\xfchl\n" + (OBJ + OBJ_FACES).encode(),
    "continued by DOS.obj": (OBJ + OBJ_FACES.replace(" 3", " \\\n3")).replace("\n", "\r\n"),
    "slashes.obj": OBJ + "f 1// 2/ 3//\nf -4/1 -2//9 -1/2/3\n",
    "names like NaN.obj": "# 1.#INF\no room1#INDEX\n" + OBJ + OBJ_FACES + "# at 1.#QNAN #1#IND\n",
    "a list of names goes on.obj": OBJ + "g a b \\\n c\n" + OBJ_FACES,
    "two members.off.gz": gzip.compress(OFF[:30].encode()) + gzip.compress(OFF[30:].encode()),
    "padded.off.gz": gzip.compress(OFF.encode()) + bytes(512),
    "a bare end of lines.ply": TEXT.replace("\n", "\r"),
    "mixed ends of lines.ply": TEXT.replace("\n", "\r\n").replace("ply\r\n", "ply\n"),
    "indices that are floats.ply": TEXT.replace("uchar int", "uchar float"),
    "padded.ply": BINARY + bytes(100),
    "other elements.ply": TEXT.replace("end_h", "element a 1\nproperty uchar r\nend_h") + "7\n",
    "strip.ply": STRIPS.format("binary_big_endian").encode()
    + PLACES.astype(">f4").tobytes()
    + np.array([4, 1, 2, 0, 3], ">i4").tobytes(),
    "two solids.stl": f"solid a\n{FACETS[0]}endsolid a\nsolid b\n{FACETS[1]}endsolid b\n",
    "one line.stl": STL.replace("\n", " "),
    "a line a word.stl": STL.replace(" ", "\n").replace("solid\na", "solid a"),
    "padded by nought.stl": STL.encode() + bytes(5),
    "end of file of DOS.stl": STL + "\x1a",
    "binary called solid.stl": b"solid" + stl(2, RECORDS)[5:],
}  # fmt: skip
REFUSED = {
    "utf16.off": (OFF.encode("utf-16"), "does not begin as an OFF file"),
    "commas.off": (OFF.replace(" ", ","), "does not begin"),
    "fortran.off": (OFF.replace("1 1 0", "1.0D0 1 0"), "not a number"),
    "infinity.off": (OFF.replace("1 1 0", "1 1 1.#INF"), "1.#INF, which is no number"),
    "two objects.off": (OFF + OFF, "not a number"),
    "behind the end.off": (OFF.replace("3 0 2 3", "3 0 2 4"), "corners 0 to 4"),
    "below nought.off": (OFF.replace("3 0 2 3", "3 0 2 -1"), "corners -1 to 2"),
    "semicolon.off": (OFF.replace("0 1 2", "0 1 2;"), "not a number"),
    "filled with nought.off": (OFF[:-4].encode() + bytes(4), "not a number"),
    "no number.obj": (OBJ.replace("1 1 0", "1 1 1.#QNAN") + OBJ_FACES, "QNAN, which is no number"),
    "curve.obj": (OBJ + OBJ_FACES + "cstype bezier\n", "'cstype bezier'"),
    "other file.obj": (OBJ + OBJ_FACES + "call b.obj\n", "'call b.obj'"),
    "spaced slashes.obj": (OBJ + "f 1 / 1 2 / 2 3 / 3\n", "corner is '/'"),
    "indices that are floats.obj": (OBJ + "f 1.0 2.0 3.0\n", "corner is '1.0'"),
    "folders as a group.obj": (OBJ + "g C:\\a\\\n" + OBJ_FACES, "name that ends in a backslash"),
    "folders as an object.obj": ("o C:\\a\\\n" + OBJ + OBJ_FACES, "name that ends in a backslash"),
    "cut short.off.gz": (gzip.compress(OFF.encode())[:-9], "cut short"),
    "more behind.off.gz": (gzip.compress(OFF.encode()) + b"more", "gzip cannot unpack it"),
    "minus nought.obj": (OBJ + "f -0 2 3\n", "corner 0"),
    "page of a server.obj": ("<html><body>404</body></html>", "statement that is not read"),
    "pointer of LFS.obj": ("version https://git-lfs.github.com/spec/v1\n", "not read as .obj"),
    "one face more.ply": (BINARY + struct.pack("<B3i", 3, 0, 1, 3), "13 bytes more"),
    "corners of another name.ply": (TEXT.replace("vertex_indices", "corners"), "without a list"),
    "edges.ply": (
        PLY_HEADER.format("ascii")
        + f"element edge 1\nproperty int vertex1\nproperty int vertex2\nend_header\n{POINTS}0 1\n",
        "no faces",
    ),
    "half.ply": (TEXT.replace("float x", "half x"), "property half x"),
    # Found by fuzzing: blanks that are none.
    "separator.ply": (TEXT.replace("property float x", "property\x1cfloat x"), "not understood"),
    "a dot before a facet.stl": (STL.replace("a\nfacet", "a.facet", 1), "damaged at the line"),
    "facet that is cut.stl": (f"solid a {FACETS[0]} {FACETS[1][:-5]}".replace("\n", " "), "no tri"),
    "four corners.stl": (STL.replace("endloop", "vertex 1 1 1\nendloop"), "of 4 corners"),
    "NaN.stl": (STL.replace("vertex 1 0 0", "vertex nan 0 0"), "NaN"),
    "big endian.stl": (stl(0, b"")[:80] + struct.pack(">I", 2) + RECORDS, "too short"),
    "one triangle less.stl": (stl(3, RECORDS), "promises 3 triangles"),
    # Found by fuzzing: what a crash leaves of a file for which there was space already.
    "nought for its end.stl": (STL[:-11].encode() + bytes(11), "NUL bytes stand where"),
    "nought for a solid.stl": (2 * STL[:-11].encode() + bytes(99), "NUL bytes stand where"),
    "words behind.stl": (stl(2, RECORDS + b"the end of this file" * 5), "100 bytes follow them"),
}  # fmt: skip


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", READ)
def test_an_odd_file_is_the_square_that_it_holds(tmp_path, name):
    mesh = read_mesh(write(tmp_path, name, READ[name]))
    corners = mesh.vertices[mesh.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    np.testing.assert_array_equal(normals, [[0, 0, 1], [0, 0, 1]])
    assert {tuple(row) for row in mesh.vertices.tolist()} == {
        tuple(map(float, line.split())) for line in POINTS.splitlines()
    }


@pytest.mark.parametrize("name", REFUSED)
def test_an_odd_file_is_refused_with_the_reason(tmp_path, name):
    content, reason = REFUSED[name]
    with pytest.raises(MeshError, match=reason):
        read_mesh(write(tmp_path, name, content))


def test_a_damaged_note_of_its_grid_damages_no_mesh(tmp_path):
    note = b"# descnet3d grid 0 1 0 0 \x9c z 0 12345678\n"
    assert read_mesh(write(tmp_path, "a.off", OFF.encode() + note)).grid is None


# --- glTF -----------------------------------------------------------------------------------------


EYE = np.eye(4).ravel().tolist()
PLACE = {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"}
DATA = "data:application/gltf-buffer;base64,"
PLAIN = base64.b64encode(PLACES).decode()
ESCAPED = "".join(f"%{ord(letter):02X}" for letter in PLAIN)


def gltf(**changes) -> str:
    """The square, with its data beside it."""
    return json.dumps(
        {
            "asset": {"version": "2.0"},
            "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "mode": 6}]}],
            "accessors": [PLACE],
            "bufferViews": [{"buffer": 0, "byteLength": 48}],
            "buffers": [{"byteLength": 48, "uri": "a.bin"}],
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (0, 0)),
        ({"nodes": []}, (0, 0)),
        ({"scenes": [{"nodes": []}, {"nodes": [0]}], "scene": 1}, (0, 0)),
        ({"scenes": [{}]}, "no triangle"),
        ({"scene": 0}, "number 0 of 0 scenes"),
        ({"scene": 0, "nodes": []}, "number 0 of 0 scenes"),  # found by fuzzing
        ({"scenes": [{}], "scene": 1}, "number 1 of 1 scenes"),
        ({"nodes": [{"mesh": 0, "translation": [5, 6, 0]}]}, (5, 6)),
        ({"nodes": [{"mesh": 0, "matrix": [*EYE[:12], 7, 8, 9, 1]}]}, (7, 8)),
        ({"nodes": [{"mesh": 0, "skin": 0}]}, "a skin"),
        ({"nodes": [{"mesh": 0, "children": [1]}, {"children": [0]}]}, "no triangle"),
        ({"asset": {"version": "2.1", "minVersion": "2.1"}}, "version 2.1"),
        ({"asset": {"version": "1.0"}}, "version 1.0"),
        ({"extensionsRequired": ["KHR_materials_unlit", "EXT_texture_webp"]}, (0, 0)),
        ({"extensionsRequired": ["EXT_meshopt_compression"]}, "EXT_meshopt_compression"),
        ({"extensionsRequired": ["KHR_gaussian_splatting"]}, "KHR_gaussian_splatting"),
        ({"buffers": [{"byteLength": 48, "uri": "./a.bin"}]}, (0, 0)),
        ({"buffers": [{"byteLength": 48, "uri": "%C3%BC/b%20c.bin"}]}, (0, 0)),
        ({"buffers": [{"byteLength": 48, "uri": "ü/b c.bin"}]}, (0, 0)),
        ({"buffers": [{"byteLength": 48, "uri": "../a.bin"}]}, "elsewhere"),
        ({"buffers": [{"byteLength": 48, "uri": DATA + PLAIN}]}, (0, 0)),
        ({"buffers": [{"byteLength": 48, "uri": DATA + ESCAPED}]}, (0, 0)),
        ({"buffers": [{"byteLength": 48, "uri": "data:text/plain,abc"}]}, "base64 is"),
        ({"buffers": [{"byteLength": 48, "uri": "file:///a.bin"}]}, "elsewhere"),
        ({"buffers": [{"byteLength": 48, "uri": "none.bin"}]}, "not beside it"),
        ({"buffers": [{"byteLength": 52, "uri": "a.bin"}]}, "cut short"),
        ({"accessors": [{**PLACE, "componentType": 5130}]}, "5130"),
        ({"accessors": [{**PLACE, "count": 5}]}, "promises more data"),
    ],
)  # fmt: skip
def test_scenes_as_the_standard_has_them(tmp_path, changes, expected):
    (tmp_path / "ü").mkdir()
    for name in ("a.bin", "ü/b c.bin"):
        (tmp_path / name).write_bytes(PLACES.tobytes())
    path = write(tmp_path, "a.gltf", gltf(**changes))
    if isinstance(expected, str):
        with pytest.raises(MeshError, match=expected):
            read_mesh(path)
        return
    mesh = read_mesh(path)
    assert mesh.up == "y" and len(mesh.triangles) == 2
    np.testing.assert_array_equal(mesh.vertices.min(axis=0)[:2], expected)


def test_the_data_of_a_glb_file_are_those_of_its_first_buffer_alone(tmp_path):
    two = [{"byteLength": 48}, {"byteLength": 48}]
    for buffer in (0, 1):
        views = [{"buffer": buffer, "byteLength": 48}]
        text = gltf(buffers=two, bufferViews=views).encode()
        text += b" " * (-len(text) % 4)
        content = struct.pack("<I4s", len(text), b"JSON") + text
        content += struct.pack("<I4s", 48, b"BIN\0") + PLACES.tobytes()
        header = struct.pack("<4sII", b"glTF", 2, 12 + len(content))
        path = write(tmp_path, "a.glb", header + content)
        if buffer == 0:
            assert len(read_mesh(path).triangles) == 2
        else:
            with pytest.raises(MeshError, match="promises data, and holds none"):
                read_mesh(path)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({**PLACE}, 1.5),
        ({"componentType": 5126, "count": 4, "type": "VEC3"}, 1),  # zeros, by the standard
        ({**PLACE, "count": 1}, "other vertices"),
        ({**PLACE, "type": "SCALAR"}, "other vertices"),
    ],
)
def test_a_morph_target_moves_every_vertex_by_its_own(tmp_path, target, expected):
    part = {"attributes": {"POSITION": 0}, "mode": 6, "targets": [{"POSITION": 1}]}
    scene = gltf(meshes=[{"primitives": [part], "weights": [0.5]}], accessors=[PLACE, target])
    (tmp_path / "a.bin").write_bytes(PLACES.tobytes())
    path = write(tmp_path, "a.gltf", scene)
    if isinstance(expected, str):
        with pytest.raises(MeshError, match=expected):
            read_mesh(path)
    else:
        assert read_mesh(path).vertices.max() == expected
