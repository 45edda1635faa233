"""Meshes that open3d, meshio, trimesh and pygltflib write come back as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descnet3d.datasets.mesh_files import read_mesh
from descnet3d.shapes.surfaces import open3d


@st.composite
def meshes(draw, quads: bool = False):
    """Vertices, and triangles, or parallelograms that share none."""
    if quads:
        generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        start, one, other = (
            np.round(generator.normal(size=(3, draw(st.integers(1, 5)), 3)) * 16) / 16
        )
        vertices = np.stack([start, start + one, start + one + other, start + other], axis=1)
        return vertices.reshape(-1, 3), np.arange(vertices.size // 3).reshape(-1, 4)
    count = draw(st.integers(4, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Sixteenths are the same in float32, and in the digits of any writer.
    vertices = np.round(generator.normal(size=(count, 3)) * 16) / 16
    vertices += 8 * np.eye(3)[generator.integers(0, 3, count)] * np.arange(count)[:, None]
    faces = [generator.permutation(count)[:3] for _ in range(draw(st.integers(1, 8)))]
    return vertices, np.array(faces)


def as_set(vertices, triangles) -> list:
    corners = np.asarray(vertices)[np.asarray(triangles)].round(4).tolist()
    return sorted(min(one, one[1:] + one[:1], one[2:] + one[:2]) for one in corners)


def assert_reads(path, vertices, faces):
    if faces.shape[1] == 4:
        faces = np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]])
    mesh = read_mesh(path)
    np.testing.assert_allclose(
        as_set(mesh.vertices, mesh.triangles), as_set(vertices, faces), atol=1e-3
    )


@settings(max_examples=60, deadline=None)
@given(meshes(), st.data())
def test_open3d(tmp_path_factory, mesh, data):
    vertices, faces = mesh
    library = open3d()
    written = library.geometry.TriangleMesh(
        library.utility.Vector3dVector(vertices), library.utility.Vector3iVector(faces)
    )
    written.compute_vertex_normals()
    if data.draw(st.booleans()):
        written.vertex_colors = library.utility.Vector3dVector(np.abs(np.sin(vertices)))
    name = data.draw(st.sampled_from(["a.ply", "a.obj", "a.stl", "a.off", "a.glb", "a.gltf"]))
    path = tmp_path_factory.mktemp("open3d") / name
    options = {
        "write_ascii": data.draw(st.booleans()) and name != "a.stl",  # it writes no text there
        "compressed": data.draw(st.booleans()),
        "write_vertex_normals": data.draw(st.booleans()),
        "write_vertex_colors": data.draw(st.booleans()),
    }
    assert library.io.write_triangle_mesh(str(path), written, **options)
    assert_reads(path, vertices, faces)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_meshio(tmp_path_factory, data):
    meshio = pytest.importorskip("meshio")
    name, options = data.draw(
        st.sampled_from(
            [
                ("a.off", {}),
                ("a.obj", {}),
                ("a.ply", {"binary": True}),
                ("a.ply", {"binary": False}),
            ]
            + [("a.stl", {"binary": True}), ("a.stl", {"binary": False})]
        )
    )
    has_quads = name in ("a.ply", "a.obj") and data.draw(st.booleans())
    vertices, faces = data.draw(meshes(has_quads))
    written = meshio.Mesh(vertices, [("quad" if has_quads else "triangle", faces)])
    path = tmp_path_factory.mktemp("meshio") / name
    written.write(path, **options)
    assert_reads(path, vertices, faces)


@settings(max_examples=40, deadline=None)
@given(meshes(), meshes(), st.sampled_from(["glb", "gltf", "obj"]), st.integers(0, 2**32 - 1))
def test_scenes_of_trimesh(tmp_path_factory, first, second, kind, seed):
    trimesh = pytest.importorskip("trimesh")
    generator = np.random.default_rng(seed)
    scene, places, parts = trimesh.Scene(), [], []
    for vertices, faces in (first, second):
        place = trimesh.transformations.random_rotation_matrix(generator.random(3))
        place[:3, 3] = generator.integers(-5, 5, 3)
        part = trimesh.Trimesh(vertices, faces, process=False)
        scene.add_geometry(part, transform=place)
        places.append(vertices @ place[:3, :3].T + place[:3, 3])
        parts.append(faces)
    folder = tmp_path_factory.mktemp("scene")
    written = scene.export(file_type=kind)
    for name, content in (written if kind == "gltf" else {f"a.{kind}": written}).items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    path = next(folder.glob(f"*.{kind}"))
    faces = np.concatenate([parts[0], parts[1] + len(places[0])])
    mesh = read_mesh(path)
    corners = mesh.vertices[mesh.triangles].mean(axis=1)
    expected = np.concatenate(places)[faces].mean(axis=1)
    assert len(corners) == len(expected)
    for centre in expected:
        assert np.abs(corners - centre).max(axis=1).min() < 1e-3


@settings(max_examples=40, deadline=None)
@given(meshes(), st.data())
def test_pygltflib(tmp_path_factory, mesh, data):
    gltf = pytest.importorskip("pygltflib")
    vertices, faces = mesh
    whole = np.round(vertices * 16).astype(np.int16)
    quantised = data.draw(st.booleans())
    number, kind = data.draw(
        st.sampled_from([(gltf.UNSIGNED_BYTE, np.uint8), (gltf.UNSIGNED_SHORT, np.uint16)]
                        + [(gltf.UNSIGNED_INT, np.uint32)])
    )  # fmt: skip
    padded = np.zeros((len(whole), 4), np.int16)  # rows are multiples of four bytes
    padded[:, :3] = whole
    points = padded.tobytes() if quantised else vertices.astype(np.float32).tobytes()
    corners = faces.astype(kind).tobytes()
    points += b"\0" * (-len(points) % 4)
    document = gltf.GLTF2(
        scene=0,
        scenes=[gltf.Scene(nodes=[0])],
        nodes=[
            gltf.Node(children=[1], scale=[2.0, 2.0, 2.0]),
            gltf.Node(mesh=0, translation=[1.0, 0.0, 0.0], rotation=[0.0, 0.0, 1.0, 0.0]),
        ],
        meshes=[
            gltf.Mesh(
                primitives=[gltf.Primitive(attributes=gltf.Attributes(POSITION=0), indices=1)]
            )
        ],
        accessors=[
            gltf.Accessor(
                bufferView=0,
                componentType=gltf.SHORT if quantised else gltf.FLOAT,
                count=len(vertices),
                type=gltf.VEC3,
            ),
            gltf.Accessor(bufferView=1, componentType=number, count=faces.size, type=gltf.SCALAR),
        ],
        bufferViews=[
            gltf.BufferView(buffer=0, byteLength=len(points), byteStride=8 if quantised else None),
            gltf.BufferView(buffer=0, byteOffset=len(points), byteLength=len(corners)),
        ],
        buffers=[gltf.Buffer(byteLength=len(points) + len(corners))],
        extensionsUsed=["KHR_mesh_quantization"] if quantised else [],
        extensionsRequired=["KHR_mesh_quantization"] if quantised else [],
    )
    document.set_binary_blob(points + corners)
    name, how = data.draw(
        st.sampled_from(
            [("a.glb", gltf.BufferFormat.BINARYBLOB), ("a.gltf", gltf.BufferFormat.DATAURI)]
            + [("a.gltf", gltf.BufferFormat.BINFILE)]
        )
    )
    path = tmp_path_factory.mktemp("pygltflib") / name
    if how == gltf.BufferFormat.BINFILE:
        document.buffers[0].uri = "data/a b.bin"
        (path.parent / "data").mkdir()
        (path.parent / "data" / "a b.bin").write_bytes(document.binary_blob())
        document.destroy_binary_blob()
    else:
        document.convert_buffers(how)
    document.save(str(path))
    placed = (whole if quantised else vertices) * [-1, -1, 1] + [1, 0, 0]
    assert_reads(path, 2.0 * placed, faces)
