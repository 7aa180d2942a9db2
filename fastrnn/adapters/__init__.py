"""What `accelerate` does with the modules of other libraries, one file a library.

A file is imported by the next `accelerate` or `restore` once its library has been imported, or by
hand: `import fastrnn.adapters.torchrl`. It calls `fastrnn.convert.register`.
"""

from __future__ import annotations

import importlib
import sys

# Adapter -> the library's module that it is for.
LIBRARIES = {
    "sb3_contrib": "sb3_contrib.common.recurrent.policies",
    "torchaudio": "torchaudio.models.rnnt",
    "torchrl": "torchrl.modules.tensordict_module.rnn",
}


def load() -> None:
    """Imports the adapters of the libraries that this process has imported."""
    for adapter, module in LIBRARIES.items():
        if module in sys.modules:
            importlib.import_module(f"{__name__}.{adapter}")
