"""The command `descnet3d demo`: a page on this computer on which shapes are made."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from descnet3d.commands import outputs
from descnet3d.commands.console import Command
from descnet3d.zoo import presets

if TYPE_CHECKING:
    from descnet3d.models.annealed import AnnealedDescriptor

NAME = "modelnet10"
LOOPBACK = "127.0.0.1"
MOST_MEGABYTES = 20


def _flags(values: flags.FlagValues) -> None:
    flags.DEFINE_integer(
        "port",
        None,
        "Where the page is served; the first free one from 7860 on unless given.",
        lower_bound=1,
        upper_bound=65535,
        flag_values=values,
    )
    flags.DEFINE_boolean("open", False, "Open the page in a browser.", flag_values=values)


def _run(arguments: Sequence[str], values: flags.FlagValues) -> None:
    if importlib.util.find_spec("gradio") is None:
        raise ImportError("the page needs Gradio: pip install 'descnet3d[demo]'")
    folder = presets.find_with_latents(arguments[0] if arguments else NAME)
    outputs.start_keras()
    from descnet3d.models.annealed import AnnealedDescriptor

    model = presets.load(folder)
    if not isinstance(model, AnnealedDescriptor):
        raise ValueError(
            f"{arguments[0]} is a {type(model).__name__}, and the page needs an AnnealedDescriptor"
        )
    with served(model, values.port, open_browser=values.open) as address:
        print(f"{address} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()


@contextlib.contextmanager
def served(
    model: AnnealedDescriptor, port: int | None = None, *, open_browser: bool = False
) -> Iterator[str]:
    """The page's address, while it is served; to this computer alone.

    Args:
        model: what makes the shapes.
        port: where; the first free one from 7860 on where None.
        open_browser: whether a browser is to open it.
    """
    with tempfile.TemporaryDirectory(prefix="descnet3d-demo-") as temporary:
        # Read when Gradio is imported. What is dropped and made is gone when the page is.
        os.environ["GRADIO_TEMP_DIR"] = temporary
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        from descnet3d.commands import demo_page

        made = Path(temporary) / "made"
        made.mkdir()
        page = demo_page.blocks(demo_page.Workshop(model, made))
        try:
            _, address, _ = page.launch(
                server_name=LOOPBACK,
                server_port=port,
                share=False,
                inbrowser=open_browser,
                quiet=True,
                prevent_thread_lock=True,
                max_file_size=MOST_MEGABYTES * 2**20,
                allowed_paths=[str(made)],
                footer_links=[],
                ssr_mode=False,
                mcp_server=False,
                enable_monitoring=False,
            )
            yield address
        finally:
            page.close()


COMMAND = Command(
    name="demo",
    arguments=("[NAME]",),
    summary="a page on this computer: synthesise, watch, recover, paint, walk",
    description=(
        "Serves a page, to this computer alone, on which shapes are synthesised by category and "
        "seed, Langevin dynamics is watched as it forms one, a part of a mesh or grid that is "
        "dropped is recovered, silhouettes that are painted become a shape, and one walks from "
        "shape to shape; all of them can be downloaded as .glb. "
        f"Files above {MOST_MEGABYTES} MB are refused. NAME is a category, the id of a "
        "preset or a folder that a training run wrote, of an annealed descriptor; the one of ten "
        "categories unless given. It needs pip install 'descnet3d[demo]'."
    ),
    example="descnet3d demo --open",
    define_flags=_flags,
    run=_run,
)
