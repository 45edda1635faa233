"""Files as occupancy by Apache Beam: on the cores of a machine, or on those of a cluster."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import tensorflow_datasets as tfds

from descnet3d.datasets.shape_files import ANSWER, Skipped, read_answer
from descnet3d.datasets.workers import Worker
from descnet3d.datasets.zips import ZipArchive

_SKIPPED = "skipped"


class BeamFile(NamedTuple):
    """A file of one shape, as it travels to the machine that makes voxels of it.

    Attributes:
        path: where it lies, or its name in the archive; bytes, since names may be any.
        name: what it is called where it is reported.
        category: the shape's.
        id: likewise.
        turn: degrees about the upward axis.
    """

    path: bytes
    name: str
    category: str
    id: str
    turn: float = 0.0


class VoxelizeByBeam(beam.PTransform):
    """The keys and examples of a split's files.

    Args:
        files: the files, on a disk that all machines see.
        size: the side of the grids, in voxels.
        skipped: where the list of those that hold no shape is written, a tfds path.
        archive: the zip archive that the files are members of, if they are.
        strict: whether a file that holds no shape is an error.
        **options: those of `load_shape`.
    """

    def __init__(
        self,
        files: Sequence[BeamFile],
        size: int,
        skipped: Any,
        *,
        archive: str | None = None,
        strict: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.files = [tuple(file) for file in files]
        self.skipped = os.fspath(skipped)
        self.made = _Voxelize({"size": size, **options}, archive, strict)

    def expand(self, pipeline: Any) -> Any:
        """Each file goes to whichever machine is free."""
        found = (
            pipeline
            | "Files" >> beam.Create(self.files)
            | "Voxelize" >> beam.ParDo(self.made).with_outputs(_SKIPPED, main="examples")
        )
        listed = found[_SKIPPED] | "List" >> beam.combiners.ToList()
        _ = listed | "Tell" >> beam.Map(_write, path=self.skipped)
        return found.examples


class _Voxelize(beam.DoFn):
    """One file after the other, each in a process that may die of it."""

    def __init__(self, options: dict[str, Any], archive: str | None, strict: bool) -> None:
        self.options, self.archive, self.strict = options, archive, strict

    def setup(self) -> None:
        self.worker = Worker(ANSWER)
        self.folder = tempfile.TemporaryDirectory()
        self.members = ZipArchive(self.archive) if self.archive is not None else None

    def teardown(self) -> None:
        self.worker.close()
        self.folder.cleanup()
        if self.members is not None:
            self.members.close()

    def process(self, told: tuple[Any, ...]) -> Iterator[Any]:
        file = BeamFile(*told)
        path = os.fsdecode(file.path)
        if self.members is not None:
            # What the archive calls it says nothing of where it is written.
            target = Path(self.folder.name) / f"member{Path(path).suffix.lower()}"
            path = os.fspath(self.members.unpack(path, target))
        answer = self.worker.ask({"path": path, "turn": file.turn, **self.options})
        found = read_answer(path, answer, self.options["size"])
        if not isinstance(found, Skipped):
            example = {"occupancy": found.occupancy, "label": file.category, "id": file.id}
            yield f"{file.category}/{file.id}", example
        elif self.strict:
            raise ValueError(f"{file.name} {found.reason}")
        else:
            yield beam.pvalue.TaggedOutput(_SKIPPED, (file.name, found.reason))


def _write(skipped: list[tuple[str, str]], path: str) -> None:
    tfds.core.Path(path).write_text(json.dumps(sorted(skipped)), "utf-8")
