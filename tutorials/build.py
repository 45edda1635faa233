"""Makes the notebooks of their scripts, and executes them.

    python tutorials/build.py                     # all, as they are committed
    python tutorials/build.py 01_synthesise       # one of them
    python tutorials/build.py --small --check     # quickly, and nothing is written

Each `NN_name.py` here is a notebook in jupytext's percent format. It is executed in a kernel of its
own, in this folder, and written with its outputs to `NN_name.ipynb`. With `--small` the notebooks
take the settings that the tests use; what is committed is made without. What the cell tagged
`opening` shows is written to `pictures/NN_name.webp`, with which the notebook opens.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

HERE = Path(__file__).resolve().parent
SECONDS_A_CELL = 3600  # fine-tuning on one core takes a quarter of an hour
MOST_BYTES = 1_500_000
# What TensorFlow and open3d say of themselves and of the machine.
_CHATTER = re.compile(
    r"WARNING:( All log messages|absl:)|[IWE]\d{4} |Jupyter environment|\[Open3D INFO\]|\s*$"
)


def names() -> list[str]:
    """The tutorials, in reading order."""
    return sorted(path.stem for path in HERE.glob("[0-9][0-9]_*.py"))


def read_script(path: Path) -> nbformat.NotebookNode:
    """The notebook of a script, without outputs; the same script gives the same notebook."""
    notebook = jupytext.read(path, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(notebook: nbformat.NotebookNode, folder: Path, small: bool) -> float:
    """Runs a notebook in a kernel of its own, in a folder.

    Args:
        notebook: gets its outputs.
        folder: where the kernel runs.
        small: whether with the small settings.

    Returns:
        The seconds that it took, the start of the kernel included.

    Raises:
        CellExecutionError: a cell failed.
    """
    environment = dict(os.environ)
    environment.pop("DESCNET3D_TUTORIALS", None)
    if small:
        environment["DESCNET3D_TUTORIALS"] = "small"
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    client = NotebookClient(
        notebook,
        timeout=SECONDS_A_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    started = time.monotonic()
    client.execute(env=environment)
    seconds = time.monotonic() - started
    _clean(notebook)
    return seconds


def _clean(notebook: nbformat.NotebookNode) -> None:
    """Leaves out what says nothing of the shapes, or differs from one run to the next."""
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            if output.output_type == "stream":
                lines = output.text.splitlines(keepends=True)
                output.text = "".join(line for line in lines if not _CHATTER.match(line))
                if not output.text.strip():
                    continue
            elif "image/png" in output.get("data", {}):
                output.data = {"image/png": output.data["image/png"]}
            elif "image/gif" in output.get("data", {}):
                output.data = {"image/gif": output.data["image/gif"]}
            kept.append(output)
        cell.outputs = kept


def write(notebook: nbformat.NotebookNode, path: Path) -> int:
    """Writes a notebook, whole or not at all; the number of its bytes."""
    text = nbformat.writes(notebook) + "\n"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return len(text.encode())


def write_opening(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Writes the picture that the notebook opens with: the last of the cell tagged `opening`."""
    [cell] = [cell for cell in notebook.cells if "opening" in cell.metadata.get("tags", [])]
    pictures = [
        output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    path.parent.mkdir(exist_ok=True)
    with Image.open(io.BytesIO(base64.b64decode(pictures[-1]))) as picture:
        picture.convert("RGB").save(path, quality=80, method=6)


def main() -> int:
    """Builds what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a tutorial; all if absent")
    parser.add_argument("--small", action="store_true", help="with the small settings")
    parser.add_argument("--check", action="store_true", help="execute, and write nothing")
    options = parser.parse_args()
    wanted = [Path(name).stem for name in options.names] or names()
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        parser.error(f"there is no tutorial {', '.join(unknown)}; there is: {', '.join(names())}")
    failed = []
    for name in wanted:
        notebook = read_script(HERE / f"{name}.py")
        try:
            seconds = execute(notebook, HERE, options.small)
        except CellExecutionError as error:
            print(f"{name}: failed\n{error}", file=sys.stderr, flush=True)
            failed.append(name)
            continue
        size = len(nbformat.writes(notebook).encode())
        if not options.check:
            size = write(notebook, HERE / f"{name}.ipynb")
            write_opening(notebook, HERE / "pictures" / f"{name}.webp")
        large = size > MOST_BYTES
        failed += [name] * large
        remark = ", which is too large" if large else ""
        print(f"{name}: {seconds:.0f} s, {size / 1000:.0f} kB{remark}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
