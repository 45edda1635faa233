"""What the data sets of shapes share: their features, and the list of what was skipped."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from descnet3d.datasets.folders import ShapeFile
from descnet3d.datasets.shape_files import Skipped, voxelize_files

SKIPPED = "skipped.json"
Example = dict[str, Any]


class VoxelBuilder(tfds.core.GeneratorBasedBuilder):
    """A tfds builder of occupancy, label and id that passes over files which hold no shape.

    They are listed with the reason in `skipped.json`, beside the records. Where TensorFlow is not
    installed, the records are written as `array_record`, for `as_data_source`.

    Args:
        strict: whether a file that holds no shape is an error.
        keywords: what tfds' own builders take.

    Attributes:
        skipped: the files of the last build that hold no shape: name and reason.
    """

    def __init__(self, *, strict: bool = False, **keywords: Any) -> None:
        self.strict = strict
        self.skipped: list[dict[str, str]] = []
        super().__init__(**keywords)
        chosen = keywords.get("file_format") is not None or self.info.initialized
        if not chosen and importlib.util.find_spec("tensorflow") is None:
            self.info.set_file_format("array_record", override=True)

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
                    self.skipped.append({"file": name, "reason": one.reason})
        if count == 0:
            last = self.skipped[-1]
            raise ValueError(f"no file holds a shape; the last, {last['file']}, {last['reason']}")

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        self.skipped.clear()
        super()._download_and_prepare(dl_manager, download_config)
        path = self.data_path / SKIPPED
        path.write_text(json.dumps(self.skipped, indent=1, ensure_ascii=False) + "\n")
        for one in self.skipped:
            logging.warning("skipped %s: it %s", one["file"], one["reason"])
        if self.skipped:
            logging.warning("%s: %d files skipped, see %s", self.name, len(self.skipped), SKIPPED)
