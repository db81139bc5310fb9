"""What the site has that docs/ has not: README and CHANGELOG as pages, and the figures that docs/gallery.py has drawn.

MkDocs calls these functions. Pages link to each other as they do on a git host, also to what lies beside docs/; here these links
become those of the site.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "build" / "gallery"
ELSEWHERE = {"README.md": "overview.md", "CHANGELOG.md": "changelog.md"}
"""Pages that lie beside docs/, and what they are called in the site."""
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)\s#]+)")
FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
SHOWN = "<!-- the figures stand here -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages beside docs/ and the figures."""
    for source, name in ELSEWHERE.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    for figure in sorted(GALLERY.glob("*.svg")):
        files.append(File.generated(config, f"gallery/{figure.name}", abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A page's text with the links of the site; in the gallery also what was drawn."""
    uri = page.file.src_uri
    there = {name: source for source, name in ELSEWHERE.items()}.get(uri, f"docs/{uri}")
    parts = FENCED.split(markdown)
    parts[::2] = [LINK.sub(lambda link: led(link[0], there, uri), part) for part in parts[::2]]
    text = "".join(parts)
    return text.replace(SHOWN, (GALLERY / "figures.md").read_text(encoding="utf-8")) if SHOWN in text else text


def led(link: str, there: str, uri: str) -> str:
    """A link on the page `there` of the repository, as one on the page `uri` of the site."""
    target = os.path.normpath(PurePosixPath(there).parent / link)
    inside = ELSEWHERE.get(target, target.removeprefix("docs/"))
    return os.path.relpath(inside, PurePosixPath(uri).parent)
