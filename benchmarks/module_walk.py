"""Which modules an array of occupancy walks through, from the door to the result and back.

    python benchmarks/module_walk.py                 # load("toilet").synthesize(16)
    python benchmarks/module_walk.py --mesh=seat.off # descnet3d recover toilet --input=seat.off

Prints each module of the package in the order in which the work first enters it, and how many
separate times it enters: by how many functions of other modules it is called. One that is called
again and again from the same function, as in a loop, is entered once, and so is a generator
however often it is resumed; whoever asks it for its first item counts as its caller. Beside it
stands by how many of these functions it is handed shapes: a grid (an array or tensor of three axes
or more) or a mesh among its arguments, or in an object that holds one. Then the climbs: calls from
a folder into one above it in the stack.
"""

import argparse
import contextlib
import dataclasses
import inspect
import sys
import tempfile
from collections import Counter
from types import ModuleType

from tabulate import tabulate

STACK = ["shapes", "energy", "datasets", "models", "zoo", "evaluation", "training", "commands"]


def folder_of(module: str) -> int:
    """How high a module's folder is in the stack; the root lies below all."""
    part = module.split(".")[1] if "." in module else ""
    return STACK.index(part) if part in STACK else -1


def in_package(frame) -> bool:
    """Whether a frame is of a function of the package."""
    return frame.f_globals.get("__name__", "").partition(".")[0] == "descnet3d"


def holds_shapes(value, depth=1):
    """Whether it is a grid or a mesh, or a plain object or a collection that holds one."""
    if isinstance(value, type | ModuleType):
        return False
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return value.shape is not None and len(value.shape) >= 3
    if hasattr(value, "vertices") and hasattr(value, "triangles"):
        return True
    if depth == 0:
        return False
    if isinstance(value, tuple | list):
        return any(holds_shapes(part, 0) for part in value[:8])
    if dataclasses.is_dataclass(value):
        return any(holds_shapes(part, 0) for part in vars(value).values())
    return False


class Walk:
    """A profiler that notes the package's modules as calls enter them."""

    def __init__(self):
        """Nothing is entered yet."""
        self.entered = {}  # by module, what was called first
        self.callers = {}  # by module, the functions of others that call it
        self.handed = {}  # by module, those that hand it shapes
        self.climbs = Counter()
        self.generators = {}

    def __call__(self, frame, event, _):
        """Of each call within the package."""
        # Bodies of modules and classes, which run when they are imported, are no calls.
        if event != "call" or not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            return
        if not in_package(frame) or frame.f_code.co_name == "__create_fn__":
            return
        if frame.f_code.co_flags & inspect.CO_GENERATOR:
            if id(frame) in self.generators:  # it goes on, and is not called
                return
            self.generators[id(frame)] = frame  # kept, so that no other gets its number
        module = frame.f_globals["__name__"]
        caller = frame.f_back
        while caller and not in_package(caller):
            caller = caller.f_back
        if caller and caller.f_code.co_name == "<module>":  # as it is imported
            return
        above = caller.f_globals["__name__"] if caller else "the door"
        if above == module:
            return
        self.entered.setdefault(module, frame.f_code.co_qualname)
        name = above.removeprefix("descnet3d.")
        if caller:
            name += f".{caller.f_code.co_name.removeprefix('tf__')}"  # as AutoGraph renames them
        self.callers.setdefault(module, {})[name] = None
        if any(holds_shapes(value) for value in frame.f_locals.values()):
            self.handed.setdefault(module, {})[name] = None
        if caller and folder_of(module) > folder_of(above) > -1:
            self.climbs[above, module] += 1


def main():
    """Walk, and print what was entered."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--mesh", help="a mesh file to recover; synthesis where absent")
    parser.add_argument("--preset", default="toilet")
    arguments = parser.parse_args()

    import descnet3d
    from descnet3d.commands import cli

    walk = Walk()
    with tempfile.TemporaryDirectory() as folder:
        words = ["recover", arguments.preset, f"--input={arguments.mesh}", "--visible=occupied"]
        words.append(f"--out={folder}/whole.obj")
        sys.setprofile(walk)
        if arguments.mesh:
            with contextlib.suppress(SystemExit):
                cli.main(words)
        else:
            descnet3d.load(arguments.preset).synthesize(16, seed=0)
        sys.setprofile(None)
    rows = [
        [
            module.removeprefix("descnet3d."),
            function,
            len(walk.callers[module]),
            len(walk.handed.get(module, ())),
            ", ".join(name + "*" * (name in walk.handed.get(module, ())) for name in callers),
        ]
        for (module, function), callers in zip(
            walk.entered.items(), walk.callers.values(), strict=True
        )
    ]
    print(tabulate(rows, ["module", "entered at", "times", "with shapes", "by"], "github"))
    for column, what in ((2, "entered"), (3, "handed shapes")):
        times = [row[column] for row in rows if row[column]]
        print(f"\n{len(times)} modules are {what}, {times.count(1)} of them once", end="")
    print(f"; {len(walk.climbs)} climbs")
    for above, module in walk.climbs:
        print(f"  {above} -> {module}")


if __name__ == "__main__":
    main()
