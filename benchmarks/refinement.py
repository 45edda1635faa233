"""The descriptor of surfaces beside plain up-scaling: coarser test shapes made twice as fine.

    python benchmarks/refinement.py --data=modelnet10_32.npz --fine=modelnet10_bed_64.npz

Test shapes of each category are made coarser by three rules, of 2³ voxels one is occupied from an
eighth, a quarter or a half of them on, and refined again: 16³ to 32³, and with `--fine` its shapes
from 32³ to 64³. The IoU with the truth, over all voxels. *First drawing* is the network's answer at
the level where chains begin, without descent. Where trilinear up-scaling is cut is chosen for it
beside training shapes, by category and rule: *cut* (0.5 is the other column). Last, the time and
the memory of shapes on larger grids.
"""

import argparse
import resource
import time

import numpy as np
from reconstruction import first_drawing  # the script beside this one

import descnet3d
from descnet3d.datasets.archives import read_archive
from descnet3d.energy.tasks import Refinement
from descnet3d.evaluation.reconstruction import (
    nearest_upscaling,
    score,
    solve,
    trilinear_upscaling,
)
from descnet3d.tables import table

SHARES = (1 / 8, 1 / 4, 1 / 2)
CUTS = np.linspace(0.1, 0.9, 17)


def best_cut(condition: Refinement, training: np.ndarray) -> float:
    """Where trilinear up-scaling of training shapes is cut for the highest IoU."""
    problem = condition.pose(training)
    found = trilinear_upscaling(problem, training)
    each = [score((found > cut).astype(np.float32), problem).iou for cut in CUTS]
    return float(CUTS[np.argmax(each)])


def measured(model, condition: Refinement, training, test, seed: int) -> list[float]:
    problem = condition.pose(test, seed)
    cut = best_cut(condition, training)
    trilinear = trilinear_upscaling(problem, training)
    found = (
        nearest_upscaling(problem, training),
        trilinear,
        (trilinear > cut).astype(np.float32),
        first_drawing(model, condition, problem, seed),
        solve(model, condition, problem, seed=seed),
    )
    return [score(each, problem).iou for each in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a voxel archive with the official split")
    parser.add_argument("--fine", help="another, of shapes on a finer grid")
    parser.add_argument("--model", default="refinement_modelnet10_32")
    parser.add_argument("--categories", nargs="+", help="of the archive; all if absent")
    parser.add_argument("--shapes", type=int, help="test shapes of each category; all if absent")
    parser.add_argument("--sizes", type=int, nargs="*", default=(64, 128), help="to be timed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = descnet3d.load(options.model)
    columns = ["nearest", "trilinear", "trilinear, cut", "first drawing", "descriptor"]
    for path in filter(None, (options.data, options.fine)):
        archive = read_archive(path)
        shapes, rows = archive.occupancy, {}
        for category in options.categories or archive.classes:
            own = archive.labels == archive.classes.index(category)
            if not own.any():
                continue
            training = shapes[own & ~archive.is_test][:100]
            test = shapes[own & archive.is_test][: options.shapes]
            for share in SHARES:
                condition = Refinement(share)
                figures = measured(model, condition, training, test, options.seed)
                rows[f"{category}, from {share:g} on"] = [f"{each:.3f}" for each in figures]
                print(
                    f"{category}, {share:g}: {rows[f'{category}, from {share:g} on']}", flush=True
                )
        side = shapes.shape[1]
        print(f"\n{table(rows, columns, corner=f'{side // 2}³ to {side}³')}\n", flush=True)
    shapes = read_archive(options.data).occupancy[:1]
    rows = {}
    for size in options.sizes:
        model.refine(shapes, size, seed=0, num_steps=1)  # compiles
        started, processor = time.perf_counter(), time.process_time()
        model.refine(shapes, size, seed=0)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        took = time.perf_counter() - started, time.process_time() - processor
        rows[f"{size}³"] = [*(f"{each:.1f} s" for each in took), f"{memory:.1f} GiB"]
    print(table(rows, ["a shape", "of the processor", "memory"], corner="from 32³"))


if __name__ == "__main__":
    main()
