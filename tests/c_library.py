"""The C library for tests: compiled once, and called by ctypes."""

import ctypes
import shutil
import subprocess
import wave
from ctypes import POINTER, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import pytest
import torch
from torch import nn

import fastrnn

STATUSES = ("ok", "bad argument", "cannot read", "bad file", "unsupported", "no memory")


def load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    stream, floats = c_void_p, POINTER(c_float)
    for name, result, *arguments in (
        ("open", c_int, c_char_p, c_int64, POINTER(stream)),
        ("open_memory", c_int, c_void_p, c_size_t, c_int64, POINTER(stream)),
        ("share", c_int, stream, c_int64, POINTER(stream)),
        ("step", c_int, stream, c_int64, floats, floats),
        ("reset", c_int, stream, c_int64),
        ("state_size", c_int64, stream),
        ("get_state", c_int, stream, floats, c_int64),
        ("set_state", c_int, stream, floats, c_int64),
        ("batch_size", c_int64, stream),
        ("input_size", c_int64, stream),
        ("output_size", c_int64, stream),
        ("free", None, stream),
        ("error", c_char_p),
        ("version", c_char_p),
        ("isa", c_char_p),
    ):
        function = getattr(library, f"fastrnn_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def floats(tensor: torch.Tensor):
    return ctypes.cast(tensor.data_ptr(), POINTER(c_float))


class Stream:
    """fastrnn.h as an object. A call that fails raises ValueError with the status and the words."""

    def __init__(self, library, handle):
        self.library, self.handle = library, handle

    @classmethod
    def open(cls, library, source, batch_size=1):
        """source: a path, or a file's bytes."""
        handle = c_void_p(1)
        if isinstance(source, (bytes, bytearray)):
            given = (ctypes.c_char * len(source)).from_buffer_copy(source)
            status = library.fastrnn_open_memory(given, len(source), batch_size, handle)
        else:
            status = library.fastrnn_open(str(source).encode(), batch_size, handle)
        assert (handle.value is None) == (status != 0)
        _raise(library, status)
        return cls(library, handle)

    def share(self, batch_size=1):
        handle = c_void_p()
        self.call("share", batch_size, handle)
        return Stream(self.library, handle)

    def call(self, name, *arguments):
        _raise(self.library, getattr(self.library, f"fastrnn_{name}")(self.handle, *arguments))

    def size(self, name):
        return getattr(self.library, f"fastrnn_{name}_size")(self.handle)

    def __call__(self, input):
        output = torch.full((*input.shape[:-1], self.size("output")), torch.nan)
        steps = len(input) if input.dim() == 3 else 1
        self.call("step", steps, floats(input.contiguous()), floats(output))
        return output

    @property
    def state(self):
        found = torch.full((self.size("state"),), torch.nan)
        self.call("get_state", floats(found), len(found))
        return found

    @state.setter
    def state(self, values):
        self.call("set_state", floats(values), len(values))

    def __del__(self):
        self.library.fastrnn_free(self.handle)


def _raise(library, status):
    if status:
        raise ValueError(f"{STATUSES[status]}: {library.fastrnn_error().decode()}")


def stacks():
    return {
        "gru": fastrnn.FastGRU(3, 17, num_layers=2),
        "lstm": [fastrnn.FastLSTM(5, 9, proj_size=4), nn.Linear(4, 3)],
        "rnn": [
            fastrnn.FastRNN(4, 5, bias=False),
            fastrnn.FastRNN(5, 33, nonlinearity="relu"),
            fastrnn.FastRNN(33, 2, nonlinearity="identity"),
            nn.Linear(2, 1, bias=False),
        ],
        "torch": [nn.GRU(2, 3), nn.LSTMCell(3, 8)],
    }


def flat(state):
    """All states one after another, as in C; a module's own order is by state, then by layer."""
    if isinstance(state, torch.Tensor):
        return state.reshape(-1)
    return torch.cat([flat(part) for part in state])


def compile_c(source, path, out, *flags):
    """With the library beside it."""
    compiler = shutil.which("cc") or pytest.skip("there is no C compiler")
    where = path.parent
    words = [*flags, "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{where}", str(source)]
    link = [f"-L{where}", "-lfastrnn", f"-Wl,-rpath,{where}", "-o", str(out)]
    subprocess.run([compiler, *words, *link], check=True, timeout=120)


def write_wav(path, seconds=0.5):
    """A mono sound of 16 bits, and an odd chunk before its samples."""
    samples = (torch.randn(int(8000 * seconds) + 3) * 8000).clamp(-32768, 32767).to(torch.int16)
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(ctypes.string_at(samples.data_ptr(), 2 * len(samples)))
    plain = path.read_bytes()
    chunks = b"WAVELIST\x03\0\0\0abc\0" + plain[12:]
    path.write_bytes(b"RIFF" + len(chunks).to_bytes(4, "little") + chunks)
