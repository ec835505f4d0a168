"""What the documentation says about papers and results is generated when the site is built, never typed.

`pages` has a page for every paper and room, `notebooks` executes the gallery; `tables` fills the placeholders of
the pages that are written by hand.
"""

from pathlib import Path

import formulas
import notebooks
import pages
import tables
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from plotly.offline import get_plotlyjs

from attractor.papers import ROOMS


def on_config(config: MkDocsConfig) -> None:
    """The rooms stand in the navigation, below the overview of papers."""
    section = next(entry["Papers"] for entry in config.nav or [] if "Papers" in entry)
    section += [{room: f"papers/{room}/index.md"} for room in ROOMS]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the generated pages."""
    for path, content in (pages.pages() | notebooks.pages()).items():
        files.append(File.generated(config, path, content=content))


def on_page_markdown(markdown: str, **_) -> str:
    """Replace the placeholders of a page."""
    return tables.fill(markdown)


def on_page_content(html: str, **_) -> str:
    """Typeset the formulas of a page."""
    return formulas.typeset(html)


def on_post_build(config: MkDocsConfig) -> None:
    """The plotting library goes with the site, so that it works offline."""
    target = Path(config.site_dir, "javascripts", "plotly.min.js")
    target.parent.mkdir(exist_ok=True)
    target.write_text(get_plotlyjs(), encoding="utf-8")
