"""The shapes of presets beside real ones, over several seeds: how far the model is, and how sure.

    python benchmarks/synthesis.py --data=modelnet10_32.npz --presets bed chair --seeds 0 1 2
    python benchmarks/synthesis.py --data=modelnet10_32.npz --presets chair --steps 10 20 40 80

For each preset and figure: the mean over the seeds, the least and the largest, what the real test
shapes reach (where they would be compared with themselves, as many real training shapes), and the
ratio of the mean to it. Each seed synthesises `--num` shapes from fresh noise; none is chosen. With
several numbers of steps there is a table for each; `seconds` are those of a shape, by processor
time, of chains that had been compiled before. What `--json` has gathered, of this run and others,
comes last in one table.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np

from descnet3d.datasets.archives import read_archive
from descnet3d.evaluation.synthesis import Reference, score_real_shapes, score_shapes
from descnet3d.files import replacing
from descnet3d.tables import table
from descnet3d.zoo import presets


def measured(preset, archive, num, seeds, steps):
    """The scores of each seed, and those of real shapes, of as many drawings of them."""
    model = presets.load(preset)
    category = model.preset["category"]
    of_several = model.preset.get("categories")
    reference = Reference(
        archive,
        None if of_several else category,
        presets.reference_classifier(archive.classes, model.grid),
    )
    model.synthesize(num, seed=0, num_steps=2)  # compiles
    ours = []
    for seed in seeds:
        begun = time.process_time()
        shapes = model.synthesize(num, seed=seed, num_steps=steps)
        seconds = (time.process_time() - begun) / num
        ours.append({**score_shapes(shapes, reference).as_dict(), "seconds": seconds})
    return ours, [score_real_shapes(reference, num, seed).as_dict() for seed in seeds]


def told(ours, real):
    """A table of one preset's figures."""
    rows = {}
    for name in ours[0]:
        values = [scores[name] for scores in ours]
        row = [float(np.mean(values)), min(values), max(values)]
        if name in real[0]:
            own = float(np.mean([scores[name] for scores in real]))
            row += [own, f"{row[0] / own:.3f}" if own and name != "shapes" else None]
        rows[name] = row
    return table(rows, ["mean", "least", "largest", "real shapes", "ratio"])


# The figures of the one table, and whether they are told as they are or beside the real shapes'.
TOGETHER = {
    "nearest_iou": ("IoU to the nearest", True),
    "occupancy_ratio": ("occupancy", False),
    "matching_distance": ("matching distance", True),
    "coverage": ("coverage", True),
    "pairwise_iou": ("IoU of pairs", True),
    "frechet_distance": ("Fréchet distance", True),
    "one_piece": ("in one piece", True),
    "largest_piece": ("largest piece", True),
    "copies": ("copies", False),
}


def together(found):
    """A row for each preset: means over the seeds over those of real shapes, least and largest."""
    measured = [scores["real"][0].keys() for scores in found.values()]
    told = {name: TOGETHER[name] for name in TOGETHER if all(name in keys for keys in measured)}
    rows = {}
    for preset, scores in found.items():
        row = []
        for name, (_, compared) in told.items():
            own = np.mean([real[name] for real in scores["real"]])
            values = np.array([each[name] for each in scores["ours"]]) / (own if compared else 1)
            row.append(f"{values.mean():.2f} [{values.min():.2f}, {values.max():.2f}]")
            row[-1] += "" if compared else f" ({own:.2f})"
        rows[preset] = row
    return table(rows, [name for name, _ in told.values()])


def main():
    """Measure, and print a table for each preset."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", required=True, help="an archive with the official split")
    parser.add_argument("--presets", nargs="*", default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--num", type=int, default=64)
    parser.add_argument("--steps", nargs="+", type=int, default=[None], help="of sampling")
    parser.add_argument("--json", help="where all scores are added to, by preset")
    arguments = parser.parse_args()
    if not arguments.presets and not arguments.json:
        parser.error("give --presets, or a --json that was gathered before")
    archive = read_archive(arguments.data)
    for preset, steps in itertools.product(arguments.presets, arguments.steps):
        ours, real = measured(preset, archive, arguments.num, arguments.seeds, steps)
        name = f"{preset}, {steps} steps" if steps else preset
        print(f"### {name}\n\n{told(ours, real)}\n", flush=True)
        if arguments.json:
            path = Path(arguments.json)
            found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
            with replacing(path) as temporary:
                text = json.dumps({**found, name: {"ours": ours, "real": real}}, indent=1)
                Path(temporary).write_text(text, "utf-8")
    if arguments.json:
        print(together(json.loads(Path(arguments.json).read_text("utf-8"))))


if __name__ == "__main__":
    main()
