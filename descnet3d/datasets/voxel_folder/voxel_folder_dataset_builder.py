"""`voxel_folder`: a folder of one's own shapes as a tfds data set."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow_datasets as tfds

from descnet3d.datasets.folder_archives import content_digest
from descnet3d.datasets.folders import ShapeFile, in_poses, list_folder, printable
from descnet3d.datasets.voxel_builder import Example, VoxelBuilder

if TYPE_CHECKING:
    from descnet3d.datasets.beam_voxels import VoxelizeByBeam

_HERE = "working_folder"


@dataclasses.dataclass(eq=False)
class VoxelFolderConfig(tfds.core.BuilderConfig):
    """Which folder, and how its shapes become grids.

    Attributes:
        name: made by the builder from the folder's name, the size and a digest of the content.
        root: the folder, laid out as `folders.list_shapes` reads it.
        size: the side of the grids, in voxels.
        fill: "solid" or "surface", for meshes.
        span: the longest side of a mesh, as a share of the grid's.
        up: the upward axis of the meshes, "z" or "y"; y in glTF and z in the others where None.
        poses: in how many poses about the upward axis each mesh goes in.
        test_share: the share of test shapes where the folder says nothing of splits.
        strict: whether a file that cannot be read is an error.
    """

    name: str = _HERE
    root: str = "."
    size: int = 32
    fill: str = "solid"
    span: float = 0.75
    up: str | None = None
    poses: int = 1
    test_share: float = 0.2
    strict: bool = False


class Builder(VoxelBuilder):
    """A folder of one's own shapes on voxel grids.

    Args:
        root: the folder.
        config: instead of `root` and the others, a `VoxelFolderConfig`; or "working_folder", for
            the folder that the program runs in.
        settings: the fields of `VoxelFolderConfig`, by name, and what tfds' own builders take.

    Raises:
        ValueError: neither is given, or the folder holds no shapes.
    """

    # Said here because tfds, finding it out, imports a package that it does not depend on.
    code_path = tfds.core.Path(__file__)
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The first."}
    # On the command line: tfds build voxel_folder --config='{"root": "my_shapes", "size": 32}'
    BUILDER_CONFIGS = [VoxelFolderConfig(description="The folder that the program runs in.")]
    builder_config: VoxelFolderConfig

    def __init__(
        self, *, root: Any = None, config: VoxelFolderConfig | str | None = None, **settings: Any
    ) -> None:
        chosen = {
            field.name: settings.pop(field.name)
            for field in dataclasses.fields(VoxelFolderConfig)
            if field.name in settings and field.name not in ("name", "version")
        }
        if isinstance(config, str) and config == _HERE:
            config = VoxelFolderConfig()
        if config is None and root is not None:
            config = VoxelFolderConfig(root=str(root), **chosen)
        elif not isinstance(config, VoxelFolderConfig) or root is not None or chosen:
            raise ValueError(
                "voxel_folder needs a folder, as in "
                'tfds.builder("voxel_folder", root="my_shapes", size=32), or a config and nothing '
                f"beside it; config is {config!r}, root is {root!r}"
            )
        shapes, self._passed_over = list_folder(config.root, config.test_share)
        self.shapes, turns = in_poses(shapes, config.poses)
        self.turns = dict(zip(self.shapes, turns, strict=True))
        named = dataclasses.replace(config, name=_name(config, self.shapes))
        super().__init__(config=named, strict=config.strict, **settings)

    def _info(self) -> tfds.core.DatasetInfo:
        classes = sorted({shape.category for shape in self.shapes})
        return self.dataset_info(self.builder_config.size, classes)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        self.skip(
            (_name_in(self.builder_config.root, path), why) for path, why in self._passed_over
        )
        splits: dict[str, list[ShapeFile]] = {"train": [], "test": []}
        for shape in self.shapes:
            splits[shape.split].append(shape)
        make = self._generate_by_beam if self._by_beam else self._generate_examples
        return {split: make(some) for split, some in splits.items() if some}

    def _generate_by_beam(self, shapes: list[ShapeFile]) -> VoxelizeByBeam:
        from descnet3d.datasets.beam_voxels import BeamFile

        config = self.builder_config
        files = [
            BeamFile(
                os.fsencode(shape.path.absolute()),
                _name_in(config.root, shape.path),
                shape.category,
                shape.id,
                self.turns[shape],
            )
            for shape in shapes
        ]
        options = {"fill": config.fill, "span": config.span, "up": config.up}
        return self.examples_by_beam(shapes[0].split, files, config.size, **options)

    def _generate_examples(self, shapes: list[ShapeFile]) -> Iterator[tuple[str, Example]]:
        config = self.builder_config
        named = [(_name_in(config.root, shape.path), shape) for shape in shapes]
        turns = [self.turns[shape] for shape in shapes]
        options = {"fill": config.fill, "span": config.span, "up": config.up, "turn": turns}
        return self.examples([named], config.size, **options)


def _name_in(root: str, path: str | Path) -> str:
    return Path(printable(path)).relative_to(printable(root)).as_posix()


def _name(config: VoxelFolderConfig, shapes: Sequence[ShapeFile]) -> str:
    """The folder's name, the size, and a digest of all that the data set depends on."""
    digest = content_digest(config.root, shapes, config.size, config.fill, config.span, config.up)
    name = Path(config.root).resolve().name.lower()
    stem = re.sub(r"[^a-z0-9]+", "_", name).strip("_") or "shapes"
    return f"{stem}_{config.size}_{digest}"
