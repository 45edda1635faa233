"""`modelnet_voxels`: ModelNet as released, or as packed, as a tfds data set."""

from __future__ import annotations

import collections
import dataclasses
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError

from descnet3d.datasets.archives import VoxelArchive, read_archive
from descnet3d.datasets.folders import ShapeFile
from descnet3d.datasets.shape_files import Skipped
from descnet3d.datasets.voxel_builder import Example, VoxelBuilder
from descnet3d.datasets.zips import ZipArchive

if TYPE_CHECKING:
    from descnet3d.datasets.beam_voxels import VoxelizeByBeam

# fmt: off
MODELNET10 = (
    "bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table",
    "toilet",
)
MODELNET40 = (
    "airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair",
    "cone", "cup", "curtain", "desk", "door", "dresser", "flower_pot", "glass_box", "guitar",
    "keyboard", "lamp", "laptop", "mantel", "monitor", "night_stand", "person", "piano",
    "plant", "radio", "range_hood", "sink", "sofa", "stairs", "stool", "table", "tent",
    "toilet", "tv_stand", "vase", "wardrobe", "xbox",
)
# fmt: on
# What is unpacked at a time, to be voxelised on all cores.
_AT_A_TIME = 128


@dataclasses.dataclass(eq=False)
class ModelnetVoxelsConfig(tfds.core.BuilderConfig):
    """Which release, and how its shapes become grids.

    Attributes:
        size: the side of the grids, in voxels.
        url: where the archive is downloaded from; its last part is the archive's name in the
            manual folder. Empty for a packed archive, which is in the manual folder alone.
        member: what the archive's shapes are called inside it, a regular expression with the groups
            `category`, `split` and `id`.
        layout: the same for people.
        classes: the names of the categories; empty for those of the packed archive.
    """

    size: int = 32
    url: str = ""
    member: str = ""
    layout: str = ""
    classes: tuple[str, ...] = ()


_SPLIT = r"(?P<split>(?i:train|test))"
_MESHES = rf"(?:.+/)?(?P<category>[^/]+)/{_SPLIT}/(?P<id>[^/]+)\.(?i:off)"
_GRIDS = rf"(?:.+/)?volumetric_data/(?P<category>[^/]+)/30/{_SPLIT}/(?P<id>[^/]+)\.(?i:mat)"
_MODELNET10_URL = "http://3dvision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip"
_MODELNET40_URL = "http://modelnet.cs.princeton.edu/ModelNet40.zip"
_SHAPENETS_URL = "http://3dshapenets.cs.princeton.edu/3DShapeNetsCode.zip"


def _configs() -> Iterator[ModelnetVoxelsConfig]:
    releases = (
        ("modelnet10", _MODELNET10_URL, MODELNET10),
        ("modelnet40", _MODELNET40_URL, MODELNET40),
    )
    for name, url, classes in releases:
        for size in (32, 64, 128):
            yield ModelnetVoxelsConfig(
                name=f"{name}_{size}",
                description=f"The meshes of {name}, solid, at {size}³.",
                size=size,
                url=url,
                member=_MESHES,
                layout="CATEGORY/train/NAME.off or CATEGORY/test/NAME.off",
                classes=classes,
            )
    for name, _, classes in releases:
        for size, how in ((30, "as they are"), (32, "with a border of one voxel")):
            yield ModelnetVoxelsConfig(
                name=f"shapenets_{name}_{size}",
                description=f"The grids of the 3D ShapeNets release, in twelve poses, {how}.",
                size=size,
                url=_SHAPENETS_URL,
                member=_GRIDS,
                layout="volumetric_data/CATEGORY/30/train/NAME.mat, or test in place of train",
                classes=classes,
            )
    for size in (32, 64, 128):
        yield ModelnetVoxelsConfig(
            name=f"packed_{size}",
            description=f"The {size}³ grids of the voxel archive (.npz) in the manual folder.",
            size=size,
        )


class Member(NamedTuple):
    """A shape in a released archive: its name there, and what the name says."""

    name: str
    category: str
    split: Literal["train", "test"]
    id: str


class Builder(VoxelBuilder):
    """ModelNet10 and ModelNet40 on voxel grids."""

    # Said here because tfds, finding it out, imports a package that it does not depend on.
    code_path = tfds.core.Path(__file__)
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The first."}
    BUILDER_CONFIGS = list(_configs())
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Archives that lie here are taken instead of a download: ModelNet10.zip, ModelNet40.zip, "
        "3DShapeNetsCode.zip, and for the configs packed_* one voxel archive (.npz)."
    )
    builder_config: ModelnetVoxelsConfig

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return self.dataset_info(config.size, config.classes, "https://modelnet.cs.princeton.edu")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        if not self.builder_config.url:
            return self._packed_splits(self._packed_archive(dl_manager))
        path = self._released_archive(dl_manager)
        with ZipArchive(path) as archive:
            members, passed_over = self._members(archive.names)
        self.skip(passed_over)
        if not members:
            raise ValueError(
                f"{path} holds no shapes of {self.builder_config.name}: nothing in it is called "
                f"{self.builder_config.layout}, with a category of {self.builder_config.name}"
            )
        make = self._generate_by_beam if self._by_beam else self._generate_examples
        return {
            split: make(path, [m for m in members if m.split == split])
            for split in ("train", "test")
            if any(member.split == split for member in members)
        }

    def _generate_by_beam(self, path: Path, members: list[Member]) -> VoxelizeByBeam:
        from descnet3d.datasets.beam_voxels import BeamFile

        files = [
            BeamFile(os.fsencode(member.name), member.name, member.category, member.id)
            for member in members
        ]
        archive = os.fspath(path.absolute())
        size = self.builder_config.size
        return self.examples_by_beam(members[0].split, files, size, archive=archive)

    def _generate_examples(
        self, path: Path, members: list[Member]
    ) -> Iterator[tuple[str, Example]]:
        return self.examples(_unpacked(path, members), self.builder_config.size)

    def _members(self, names: Iterable[str]) -> tuple[list[Member], list[Skipped]]:
        """The shapes among the files of an archive, and why the others are none."""
        config = self.builder_config
        members: list[Member] = []
        passed_over: list[Skipped] = []
        of_others: collections.Counter[str] = collections.Counter()
        counts: collections.Counter[str] = collections.Counter()
        for name in names:
            if _is_litter(name):
                continue
            match = re.fullmatch(config.member, name)
            if match is None:
                passed_over.append(Skipped(name, f"is not called {config.layout}"))
                continue
            category = match["category"].lower().replace(" ", "_")
            if category not in config.classes:
                of_others[name[: match.end("category")]] += 1
                continue
            is_train = match["split"].lower() == "train"
            split: Literal["train", "test"] = "train" if is_train else "test"
            members.append(Member(name, category, split, match["id"]))
            counts[match["id"]] += 1
        # ModelNet10 of an archive of forty categories: one line each, not one a file.
        passed_over += [
            Skipped(folder, f"is of no category of {config.name}, with its {count} files")
            for folder, count in of_others.items()
        ]
        different = [one if counts[one.id] == 1 else one._replace(id=one.name) for one in members]
        return different, passed_over

    def _released_archive(self, dl_manager: Any) -> Path:
        url = self.builder_config.url
        name = url.rsplit("/", 1)[1]
        folder = _manual_folder(dl_manager)
        if folder is not None and (folder / name).is_file():
            return folder / name
        try:
            return Path(dl_manager.download(url))
        except (OSError, DownloadError, NonMatchingChecksumError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{url} cannot be downloaded ({reason}); get {name} in another way, and put it "
                "into the manual folder (--manual_dir, or downloads/manual in the data folder)"
            ) from error

    # --- packed archives --------------------------------------------------------------------------

    def _packed_archive(self, dl_manager: Any) -> Path:
        folder = _manual_folder(dl_manager)
        found = sorted(folder.glob("*.npz")) if folder is not None else []
        if len(found) != 1:
            raise ValueError(
                f"{self.builder_config.name} needs one voxel archive (.npz) in the manual folder "
                f"{folder or ''}, and there are {len(found)}"
            )
        return found[0]

    def _packed_splits(self, path: Path) -> dict[str, Iterator[tuple[str, Example]]]:
        archive = read_archive(path)
        size, wanted = archive.occupancy.shape[1:], (self.builder_config.size,) * 3
        if size != wanted:
            raise ValueError(f"{path} holds grids of {size}, and {self.name} was to have {wanted}")
        self.info.features["label"].names = list(archive.classes)
        splits = {"train": ~archive.is_test, "test": archive.is_test}
        return {
            split: _packed_examples(archive, rows.nonzero()[0])
            for split, rows in splits.items()
            if rows.any()
        }


def _packed_examples(archive: VoxelArchive, rows) -> Iterator[tuple[str, Example]]:
    for row in rows:
        yield (
            f"{row:08d}",
            {
                "occupancy": archive.occupancy[row],
                "label": int(archive.labels[row]),
                "id": archive.ids[row],
            },
        )


def _unpacked(path: Path, members: list[Member]) -> Iterator[list[tuple[str, ShapeFile]]]:
    """The members as files, a group at a time; a group's files go when the next is asked for."""
    with ZipArchive(path) as archive:
        for start in range(0, len(members), _AT_A_TIME):
            with tempfile.TemporaryDirectory() as folder:
                group = []
                for number, member in enumerate(members[start : start + _AT_A_TIME]):
                    # What the archive calls it says nothing of where it is written.
                    name = f"{number:04d}{Path(member.name).suffix.lower()}"
                    file = archive.unpack(member.name, Path(folder) / name)
                    shape = ShapeFile(file, member.category, member.split, member.id)
                    group.append((member.name, shape))
                yield group


def _is_litter(name: str) -> bool:
    """What the systems of those who packed it have left behind."""
    return any(part == "__MACOSX" or part.startswith(".") for part in name.split("/"))


def _manual_folder(dl_manager: Any) -> Path | None:
    try:
        return Path(dl_manager.manual_dir)
    except AssertionError:  # there is none, or nothing in it
        return None
