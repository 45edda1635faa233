"""What the data sets of shapes share: their features, and the list of what was skipped."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from descnet3d.datasets.folders import SKIPPED, ShapeFile, passed_over_in_words
from descnet3d.datasets.shape_files import Skipped, voxelize_files

if TYPE_CHECKING:
    from descnet3d.datasets.beam_voxels import BeamFile, VoxelizeByBeam

Example = dict[str, Any]


class VoxelBuilder(tfds.core.GeneratorBasedBuilder):
    """A tfds builder of occupancy, label and id that passes over files which hold no shape.

    They are listed with the reason in `skipped.json`, beside the records. Where TensorFlow is not
    installed, the records are written as `array_record`, for `as_data_source`.

    Args:
        strict: whether a file that holds no shape is an error.
        keywords: what tfds' own builders take.

    Where it is given a Beam runner or options of one (`tfds build --beam_pipeline_options`), Apache
    Beam voxelises, on all machines of the runner; otherwise processes of this one do.

    Attributes:
        skipped: the files of the last build that hold no shape: name and reason.
    """

    _by_beam = False

    def __init__(self, *, strict: bool = False, **keywords: Any) -> None:
        self.strict = strict
        self.skipped: list[dict[str, str]] = []
        super().__init__(**keywords)
        chosen = keywords.get("file_format") is not None or self.info.initialized
        if not chosen and importlib.util.find_spec("tensorflow") is None:
            self.info.set_file_format("array_record", override=True)

    def as_data_source(self, split: Any = None, **keywords: Any) -> Any:
        """Examples by their numbers, as NumPy.

        Args:
            split: which; a mapping of all where None.
            keywords: as tfds has them; for `array_record` only.

        Returns:
            What tfds gives of `array_record`; records that TensorFlow wrote can only be read one
            after the other, and come as lists in memory.
        """
        if self.info.file_format.value == "array_record" or keywords:
            return super().as_data_source(split, **keywords)
        asked = list(self.info.splits) if split is None else [split]
        found = {name: list(tfds.as_numpy(self.as_dataset(split=name))) for name in asked}
        return found if split is None else found[split]

    def dataset_info(
        self, size: int, classes: Sequence[str], homepage: str | None = None
    ) -> tfds.core.DatasetInfo:
        """What tfds wants to know of the data set.

        Args:
            size: the side of its grids, in voxels.
            classes: the names of its categories; empty where the build will say.
            homepage: an address.

        Returns:
            The description: occupancy is bool `[size, size, size]`, compressed.
        """
        features = {
            "occupancy": tfds.features.Tensor(
                shape=(size, size, size), dtype=np.bool_, encoding="zlib"
            ),
            "label": tfds.features.ClassLabel(names=list(classes) or None),
            "id": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("occupancy", "label"),
            homepage=homepage,
        )

    def examples(
        self, groups: Iterable[Sequence[tuple[str, ShapeFile]]], size: int, **options: Any
    ) -> Iterator[tuple[str, Example]]:
        """The examples of a split's files, each under a key of its own.

        Args:
            groups: the files, so many at a time as are voxelised together, each with what it is
                called where it is reported.
            size: the side of the grids, in voxels.
            **options: those of `voxelize_files`.

        Yields:
            Key and example, without the files that hold no shape.

        Raises:
            ValueError: a file holds no shape and the builder is strict, or none does.
        """
        count = 0
        for group in groups:
            found = voxelize_files([shape.path for _, shape in group], size, **options)
            for (name, shape), one in zip(group, found, strict=True):
                if not isinstance(one, Skipped):
                    count += 1
                    example = {"occupancy": one.occupancy, "label": shape.category, "id": shape.id}
                    yield f"{shape.category}/{shape.id}", example
                elif self.strict:
                    raise ValueError(f"{name} {one.reason}")
                else:
                    self.skip([one._replace(path=name)])
        if count == 0:
            last = self.skipped[-1]
            raise ValueError(f"no file holds a shape; the last, {last['file']}, {last['reason']}")

    def examples_by_beam(
        self, split: str, files: Sequence[BeamFile], size: int, **options: Any
    ) -> VoxelizeByBeam:
        """The examples of a split's files, as `examples` has them, made by Apache Beam.

        Args:
            split: its name.
            files: them.
            size: the side of the grids, in voxels.
            **options: those of `VoxelizeByBeam`.
        """
        from descnet3d.datasets.beam_voxels import VoxelizeByBeam

        path = self.data_path / f"{split}.{SKIPPED}"
        return VoxelizeByBeam(files, size, path, strict=self.strict, **options)

    def skip(self, passed_over: Iterable[tuple[str, str]]) -> None:
        """Puts files that are no shapes on the list of those that were skipped."""
        self.skipped += [{"file": path, "reason": reason} for path, reason in passed_over]

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        self.skipped.clear()
        self._by_beam = bool(download_config.beam_runner or download_config.beam_options)
        super()._download_and_prepare(dl_manager, download_config)
        for told in sorted(self.data_path.glob(f"*.{SKIPPED}")):  # by Beam
            self.skip(json.loads(told.read_text("utf-8")))
            told.unlink()
        path = self.data_path / SKIPPED
        path.write_text(json.dumps(self.skipped, indent=1, ensure_ascii=False) + "\n", "utf-8")
        for line in passed_over_in_words([(one["file"], one["reason"]) for one in self.skipped]):
            logging.warning("skipped %s", line)
        if self.skipped:
            logging.warning("%s: %d files skipped, see %s", self.name, len(self.skipped), SKIPPED)
