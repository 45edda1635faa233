"""How the site is built: `python -m sphinx -W --keep-going -c docs . build/site`.

The sources are those of the repository, so that a link among the pages, the tutorials and the
presets' cards is the same in the site and in the repository. The reference is read off the
docstrings and nothing is imported (sphinx-autoapi); the tutorials are shown with the outputs that
they are committed with, and nothing is executed (myst-nb).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))
import preset_tables  # noqa: E402

project = "descnet3d"
author = copyright = "The descnet3d authors"
_version = re.search(
    r'^__version__ = "(.+)"', (ROOT / "descnet3d" / "__init__.py").read_text("utf-8"), re.MULTILINE
)
assert _version
release = _version[1]

extensions = ["myst_nb", "autoapi.extension", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "tutorials/README.md",
    "tutorials/*.ipynb",
    "zoo/*/card.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [".*", "build", "tutorials/output"]

html_theme = "furo"
html_title = f"descnet3d {release}"
html_extra_path = ["front_door"]
html_copy_source = False

myst_heading_anchors = 4
nb_execution_mode = "off"

autoapi_dirs = [str(ROOT / "descnet3d")]
autoapi_root = "docs/reference"
autoapi_add_toctree_entry = False
autoapi_options = ["members", "show-inheritance", "show-module-summary"]
# In docstrings, as in Markdown, single backticks mark code.
default_role = "code"


def _show_setting(_: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> Any:
    """Shows what a setting means, which its annotation says (`descnet3d.fields`)."""
    said = re.fullmatch(
        r"Annotated\[([^,]+), (.*?)(, Flag\(.*\))?\]", str(getattr(member, "annotation", None))
    )
    if said is None:
        return None
    member.annotation, member.docstring = said[1], f"{said[2][0].upper()}{said[2][1:]}."
    return False


def setup(app: Sphinx) -> None:
    """Shows settings, and tells of tables that the presets' configs have left behind."""
    app.connect("autoapi-skip-member", _show_setting)
    for path in preset_tables.stale_pages():
        logging.getLogger(__name__).warning(
            "%s: a table of presets says something else than zoo/*/config.json; "
            "run: python docs/preset_tables.py",
            path,
        )
