"""Renders the public API to HTML from its docstrings: make docs (needs the extra `docs`).

python docs/api/render.py [FOLDER]      default: build/docs
"""

from __future__ import annotations

import sys
from pathlib import Path

import pdoc
from torch import nn

import fastrnn

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def render(folder: Path) -> None:
    """Pages for fastrnn and fastrnn.functional."""
    for name in fastrnn.__all__:
        layer = getattr(fastrnn, name)
        if isinstance(layer, type) and issubclass(layer, nn.Module):
            layer.forward = layer.forward  # inherited from a private class: shown with the layer
            layer.__init__.__doc__ = "Arguments as torch.nn's, in its order, and those named above."
    pdoc.render.configure(docformat="google", search=False, template_directory=HERE)
    pdoc.pdoc("fastrnn", output_directory=folder)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"
    render(folder)
    print(folder / "fastrnn.html")
