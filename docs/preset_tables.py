"""Writes the tables of presets into the pages, of what `zoo/*/config.json` says.

    python docs/preset_tables.py             # after a preset has been landed or measured anew
    python docs/preset_tables.py --check     # writes nothing; 1 where a page says something else

In a page a table stands between `<!-- presets: NAME -->` and `<!-- end -->`, NAME one of `TABLES`.
"""

from __future__ import annotations

import argparse
import configparser
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tabulate import tabulate

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
Config = dict[str, Any]
_BLOCK = re.compile(r"(<!-- presets: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def read_configs(zoo: Path = ROOT / "zoo") -> list[Config]:
    """The presets' configs, by id."""
    paths = sorted(zoo.glob("*/config.json"))
    return [{**json.loads(path.read_text("utf-8")), "id": path.parent.name} for path in paths]


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    return tabulate(list(rows), list(headings), "github", disable_numparse=True) + "\n"


def _share(value: float | None, digits: int = 3) -> str:
    """As `.746`, which is how the pages write what lies between 0 and 1."""
    return "" if value is None else re.sub(r"^0(?=\.)", "", f"{value:.{digits}f}")


def _error(value: float) -> str:
    return _share(value, 4 if value < 0.1 else 3)


def _measured(configs: list[Config], *tasks: str) -> list[Config]:
    return [config for config in configs if config["task"] in tasks and "scores" in config]


def _card(config: Config) -> str:
    return f"[`{config['id']}`](../../zoo/{config['id']}/card.md)"


def _minutes(config: Config) -> str:
    return f"{config['training']['core_minutes']:.0f}" if config.get("training") else ""


def _weights(config: Config) -> str:
    if "weights" in config:
        return config["weights"]["dtype"]
    return f"those of `{config['model']['shares']}`"


def _shipped() -> set[str]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return set(re.findall(r"(\w+)/\*", parser["options.package_data"]["descnet3d.presets"]))


def every_preset(configs: list[Config]) -> str:
    """What there is: task, category, grid, size, and whether the wheel holds it."""
    shipped = _shipped()
    return _table(
        ["preset", "task", "grid", "parameters", "weights", "core minutes", "in the wheel"],
        (
            [
                _card(config),
                config["task"].replace("_", "-"),
                f"{config['size'][0]}³",
                f"{config['parameters']:,}",
                _weights(config),
                _minutes(config),
                "yes" if config["id"] in shipped else "",
            ]
            for config in configs
        ),
    )


def synthesis(configs: list[Config]) -> str:
    """What is synthesised from noise, and real test shapes in brackets."""

    def row(config: Config) -> list[str]:
        made, real = config["scores"], config["real_scores"]

        def both(name: str, digits: int = 3, write: Callable[..., str] = _share) -> str:
            if name not in made:  # that of one category is no figure of all
                return ""
            return f"{write(made[name], digits)} ({write(real[name], digits)})"

        def plain(value: float, digits: int) -> str:
            return f"{value:.{digits}f}"

        return [
            _card(config),
            both("nearest_share"),
            both("nearest_iou"),
            both("occupancy_ratio", 2, plain),
            both("one_piece", 2),
            both("pairwise_iou"),
            both("class_probability"),
            both("frechet_distance", 1, plain),
            both("coverage"),
            f"{both('copies', 2)}; {made['empty']}, {made['alike']}",
            _minutes(config),
        ]

    return _table(
        [
            "preset",
            "nearest shape of the right category (real)",
            "IoU to it",
            "occupancy",
            "in one piece",
            "IoU of pairs",
            "class probability",
            "Fréchet distance",
            "coverage",
            "copies; empty, alike",
            "core minutes",
        ],
        map(row, _measured(configs, "synthesis")),
    )


def _reconstruction(configs: list[Config], task: str, baselines: list[str]) -> str:
    def cell(scores: Config) -> str:
        return f"{_error(scores['absolute_error'])}, IoU {_share(scores['iou'])}"

    return _table(
        ["preset", "test shapes", "its own", *baselines, "core minutes"],
        (
            [
                _card(config),
                str(config["scores"]["shapes"]),
                cell(config["scores"]),
                *(cell(config["baselines"][name]) for name in baselines),
                _minutes(config),
            ]
            for config in _measured(configs, task)
        ),
    )


def recovery(configs: list[Config]) -> str:
    """The errors of recovery, beside those of simple baselines."""
    return _reconstruction(configs, "recovery", ["nearest training shape", "mean training shape"])


def super_resolution(configs: list[Config]) -> str:
    """The errors of super-resolution, beside those of simple baselines."""
    baselines = ["nearest up-scaling", "trilinear up-scaling", "nearest training shape"]
    return _reconstruction(configs, "super_resolution", baselines)


def cooperative(configs: list[Config]) -> str:
    """The generator alone, the same shapes revised, and real ones."""

    def rows(config: Config) -> list[list[str]]:
        latents = config["latent_scores"]
        encoded = (
            f"{_share(latents['encoded_iou'])} ({_share(latents['nearest_iou_of_test'])})",
            _share(latents["largest_step"]),
        )
        named = ("generator", "generator_scores"), ("revised", "scores"), ("real", "real_scores")
        energies = "energy_generated", "energy_revised", "energy_real"
        return [
            [
                _card(config) if which == "generator" else "",
                which,
                _share(config[key].get("nearest_share")),
                _share(config[key]["nearest_iou"]),
                f"{config[key]['occupancy_ratio']:.2f}",
                f"{latents[energy]:.0f}",
                _share(config[key]["coverage"]),
                _share(config[key].get("class_probability")),
                f"{config[key]['frechet_distance']:.1f}",
                *(encoded if which == "generator" else ("", "")),
            ]
            for (which, key), energy in zip(named, energies, strict=True)
        ]

    return _table(
        [
            "preset",
            "",
            "nearest of the right category",
            "IoU to it",
            "occupancy",
            "energy",
            "coverage",
            "class probability",
            "Fréchet distance",
            "IoU of encoded test shapes (nearest training shape)",
            "largest step of nine",
        ],
        (row for config in _measured(configs, "cooperative") for row in rows(config)),
    )


def classifiers(configs: list[Config]) -> str:
    """The accuracy of what tells categories apart."""
    return _table(
        ["preset", "learns from", "accuracy", "95 % confidence interval", "core minutes"],
        (
            [
                _card(config),
                "labels" if config["task"] == "classification" else "labels of features",
                f"{config['scores']['accuracy']:.4f}",
                "{accuracy_low:.4f} to {accuracy_high:.4f}".format(**config["scores"]),
                _minutes(config),
            ]
            for config in _measured(configs, "features", "classification")
        ),
    )


TABLES = {
    function.__name__: function
    for function in (
        every_preset,
        synthesis,
        recovery,
        super_resolution,
        cooperative,
        classifiers,
    )
}


def fill_in(text: str, configs: list[Config]) -> str:
    """A page with its tables as the configs have them.

    Raises:
        ValueError: it names a table that there is not.
    """

    def block(match: re.Match[str]) -> str:
        if match[2] not in TABLES:
            raise ValueError(f"no table is called {match[2]!r}; there is: {', '.join(TABLES)}")
        return match[1] + TABLES[match[2]](configs) + match[3]

    return _BLOCK.sub(block, text)


def stale_pages(pages: Path = HERE, *, write: bool = False) -> list[Path]:
    """The pages whose tables say something else than the configs; `write` puts them right."""
    configs, stale = read_configs(), []
    for path in sorted(pages.glob("*/*.md")):
        text = path.read_text(encoding="utf-8")
        if (new := fill_in(text, configs)) != text:
            stale.append(path)
            if write:
                path.write_text(new, encoding="utf-8")
    return stale


def main() -> int:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = stale_pages(write=not check)
    for path in stale:
        print(f"{path.relative_to(ROOT)}: {'says something else' if check else 'written'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
