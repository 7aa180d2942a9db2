"""Files of streams: layers and their weights, for Python and for C.

docs/stream_file.md has the format.

form     what both sides know
writing  layers to bytes
reading  bytes to layers; nothing is taken on trust (in C++: `csrc/file/`)
"""

from .form import FileLayer
from .reading import read, unpacked
from .writing import packed, write

__all__ = ["FileLayer", "packed", "read", "unpacked", "write"]
