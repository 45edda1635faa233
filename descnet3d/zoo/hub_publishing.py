"""A preset as a repository on the Hugging Face hub: laid out, described, and uploaded."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from descnet3d.models import preset_config
from descnet3d.models.preset_config import CONFIG
from descnet3d.zoo import cards, hub, preset_files, publishing

if TYPE_CHECKING:
    import huggingface_hub

README = "README.md"


class Terms(NamedTuple):
    """What a repository says beside what its preset says of itself.

    Attributes:
        license: the licence of the weights, as the hub calls it, `apache-2.0`.
        dataset: what the preset was trained and measured on, `modelnet10`; None where that is no
            public data set.
    """

    license: str
    dataset: str | None = None


def publish(
    folder: Path,
    repository: str,
    terms: Terms,
    *,
    find: Callable[[str], Path],
    private: bool = False,
) -> str:
    """Uploads a preset to the hub, where `hf://owner/name` loads it.

    Args:
        folder: the preset.
        repository: `owner/name`; made where it is not there.
        terms: what its card says of licence and data.
        find: the folder of another preset by its id, whose weights this one may share.
        private: whether only its owner sees a repository that is made.

    Returns:
        The repository's address in a browser.

    Raises:
        ValueError: `repository` is no name on the hub.
        PresetError: the preset is damaged.
        DownloadError: the hub cannot be reached, or refuses.
    """
    import huggingface_hub

    hub.place_of(f"{hub.SCHEME}{repository}")
    with tempfile.TemporaryDirectory() as temporary:
        lay_out(folder, Path(temporary), repository, terms, find=find)
        api = huggingface_hub.HfApi(library_name="descnet3d")
        with hub.errors_told(f"{hub.SCHEME}{repository}"):
            made = api.create_repo(repository, private=private or None, exist_ok=True)
            message = f"Preset {Path(folder).resolve().name}"
            api.upload_folder(repo_id=repository, folder_path=temporary, commit_message=message)
        return str(made)


def lay_out(
    folder: Path,
    target: Path,
    repository: str,
    terms: Terms,
    *,
    find: Callable[[str], Path],
) -> None:
    """Writes what a repository holds: the preset's files, and a `README.md` with metadata.

    A preset that shares the weights of another one gets them as its own: a repository needs no
    other.

    Args:
        folder: the preset.
        target: an empty folder.
        repository: what the repository is called, for the line that loads it.
        terms: as in `publish`.
        find: as in `publish`.

    Raises:
        PresetError: the preset is damaged, or a file of it is a link that leads outside.
    """
    config, sources = preset_config.read_config(folder), [folder]
    shares = config["model"].get("shares")
    if shares:
        sources.append(preset_config.folder_shared(folder, shares, find))
        config = _with_weights(config, preset_config.read_config(sources[1]))
    for source in sources:
        publishing.require_whole(source, preset_config.read_config(source))
        publishing.refuse_links(source, [source / name for name in preset_files.NAMES])
    for name in preset_files.NAMES:
        having = [source / name for source in sources if (source / name).is_file()]
        if having:
            shutil.copyfile(having[0], target / name)
    (target / CONFIG).write_text(preset_config.as_json(config), encoding="utf-8")
    card = cards.write(target).read_text(encoding="utf-8")
    (target / README).write_text(_readme(config, card, repository, terms), encoding="utf-8")


def _with_weights(config: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """The config of a preset that is bound to a category, as that of one with its own weights."""
    model = {**shared["model"], "category": config["model"]["category"]}
    taken: dict[str, Any] = {
        key: shared[key] for key in ("weights", "training", "parameters") if key in shared
    }
    return {**config, **taken, "model": model}


def _readme(config: dict[str, Any], card: str, repository: str, terms: Terms) -> str:
    head, _, rest = card.partition("\n## ")
    use = (
        "## To load it\n\n```python\nimport descnet3d  # pip install descnet3d\n\n"
        f'model = descnet3d.load("{hub.SCHEME}{repository}")\n```\n'
    )
    return f"---\n{_metadata(config, terms)}\n---\n\n{head}\n{use}\n## {rest}"


def _metadata(config: dict[str, Any], terms: Terms) -> huggingface_hub.ModelCardData:
    """What the hub reads of a card; its class writes the YAML."""
    import huggingface_hub

    task, category = config.get("task", "synthesis"), config.get("category")
    results = _results(config, task, terms)
    tags = ["descnet3d", "3d", "voxels", "energy-based-model", task.replace("_", "-"), category]
    return huggingface_hub.ModelCardData(
        license=terms.license,
        library_name="keras",
        tags=[tag for tag in tags if tag],
        datasets=[terms.dataset] if terms.dataset else None,
        metrics=[result.metric_type for result in results] or None,
        model_name=config.get("id") or "preset",
        eval_results=results or None,
    )


def _results(config: dict[str, Any], task: str, terms: Terms) -> list[huggingface_hub.EvalResult]:
    import huggingface_hub

    return [
        huggingface_hub.EvalResult(
            task_type=task.replace("_", "-"),
            dataset_type=terms.dataset or "own",
            dataset_name=terms.dataset or "shapes of its owner",
            dataset_split="test",
            metric_type=name,
            metric_name=cards.MEANINGS.get(name),
            metric_value=value,
        )
        for name, value in config.get("scores", {}).items()
        if name != "shapes" and math.isfinite(value)
    ]
