"""What MkDocs does for this site beyond mkdocs.yml: where pages come from, and mathematics.

Pages are the files that GitHub shows, where they lie: README.md, docs/, examples/, benchmarks/. On
the site they keep their paths from the root of the repository, so a link means the same in both
places. A Python file that a page links to becomes a page of its own. Formulas are drawn when the
site is built: they need neither a script nor a font in the browser.
"""

from __future__ import annotations

import html
import re
from pathlib import Path, PurePosixPath

import ziamath
from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("*.md", "docs/**/*.md", "examples/*.md", "benchmarks/*.md", "benchmarks/results/*/*.md")
BESIDE = ("docs/images/**/*.*", "docs/site/*.css", "benchmarks/results/*/*.png")
APART = "benchmarks/results/"  # pages that others link to, too many for the navigation
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n"
LINKED_PYTHON = re.compile(r"(\]\()([\w./-]+\.py)(\))")


def on_config(config):
    """Fences of ```math, as GitHub has them."""
    fences = [{"name": "math", "class": "math", "format": _formula}]
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = fences
    return config


def _formula(source: str, language, css_class: str, options, md, **others) -> str:
    drawing = ziamath.Latex(source, size=20, color="currentColor").svg()
    named = drawing.replace("<svg ", f'<svg role="img" aria-label="{html.escape(source)}" ', 1)
    return f'<div class="{css_class}">{named}</div>'


def on_files(files, config):
    """The files of docs_dir, and those around it, by their paths from the root."""
    for file in files.documentation_pages() + files.media_files():
        if file.src_dir == config.docs_dir:
            files.remove(file)
    programs = set()
    for pattern in PAGES + BESIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(_file(name, config))
            if path.suffix == ".md":
                programs |= _linked_python(name, path.read_text(encoding="utf-8"))
    for name in sorted(programs):
        source = (ROOT / name).read_text(encoding="utf-8")
        title = f"# {PurePosixPath(name).name}\n\n`{name}`\n\n"
        text = f"{UNSEARCHED}{title}````python\n{source}````\n"
        page = File.generated(config, f"{name}.md", content=text)
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    return files


def _file(name: str, config) -> File:
    file = File(name, str(ROOT), config.site_dir, config.use_directory_urls)
    file.dest_uri = (
        "pages.html" if name == "docs/README.md" else file.dest_uri.removeprefix("docs/")
    )
    if name.startswith(APART):
        file.inclusion = InclusionLevel.NOT_IN_NAV
    return file


def _linked_python(page: str, text: str) -> set[str]:
    """The Python files, by their paths from the root, that a page links to."""
    folder = (ROOT / page).parent
    paths = {(folder / link).resolve() for _, link, _ in LINKED_PYTHON.findall(text)}
    return {path.relative_to(ROOT).as_posix() for path in paths if path.is_file()}


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Links to Python files lead to their pages."""
    return LINKED_PYTHON.sub(r"\1\2.md\3", markdown)
