"""Runs of streams for their tests: in calls of several lengths, and what they are to give."""

import copy
import threading
import time

import torch
from torch import Tensor, nn


def in_calls(stream, x: Tensor, chunks=(0, 7, 1, 0, 30, 2)) -> Tensor:
    """[T, B, O], of calls of so many steps and one of the rest; 0: a step [B, I]. Every other call
    writes to NaNs that are given."""
    pieces, at = [], 0
    for i, steps in enumerate([*chunks, len(x)]):
        piece = x[at] if steps == 0 else x[at : at + steps]
        out = None
        if pieces and i % 2:
            out = torch.full((*piece.shape[:-1], pieces[0].shape[-1]), torch.nan)
        y = stream(piece, out=out)
        assert out is None or y is out
        pieces.append(y.reshape(-1, *y.shape[-2:]))
        at += steps or 1
    return torch.cat(pieces)


def oracle(module: nn.Module, x: Tensor) -> tuple:
    """(output, state or None) of a sequence [T, B, I] in float64, by the module itself."""
    module, x = copy.deepcopy(module).double(), x.double()
    with torch.no_grad():
        if isinstance(module, nn.Linear):
            return module(x), None
        if isinstance(module, nn.RNNBase):
            return module(x)
        state, outputs = None, []
        for step in x:
            state = module(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs), state


def intruded(stream, x: Tensor) -> list[str]:
    """What a thread is told that calls the stream while a long call of this one is in it."""
    words, done = [], threading.Event()

    def intrude() -> None:
        while not done.is_set() and not words:
            try:
                stream(x[:1])
            except RuntimeError as error:
                words.append(str(error))
            time.sleep(0)

    thread = threading.Thread(target=intrude)
    thread.start()
    until = time.monotonic() + 20
    while not words and time.monotonic() < until:
        try:
            stream(x)
        except RuntimeError as error:
            words.append(str(error))
    done.set()
    thread.join()
    return words[:1]
