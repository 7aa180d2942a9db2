"""One layer as the scan kernels of a GPU see it, from the arguments of `fastrnn::forward`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .. import cells, ops
from ..reference import BOTH, REVERSE, name_weights


@dataclass(frozen=True)
class Layer:
    """One call: its sizes in the letters of the design, its steps, its weights by direction."""

    cell: str
    T: int
    B: int
    N: int
    H: int
    D: int  # of a layer in heads so many for each (heads.py), those forward first
    directions: int  # bit mask: 1 forward, 2 reverse
    multiply: str  # "bfloat16", "float16", "float64", "tf32" or "ieee": how matrices multiply
    device: torch.device
    w_ih: list[Tensor]  # D tensors [G*H, I]; empty without projection
    w_hh: Tensor | None  # [D, R*H, H]; None: the cell has no recurrent product
    b_ih: list[Tensor]  # D tensors [G*H], or empty
    b_hh: Tensor | None  # [D, R*H]
    params: Tensor | None  # [D, P, H]; None: the cell has no parameters of its own
    extra: list[Tensor]  # D tensors [N, E*H]; empty: the cell has no extra slots
    state: list[Tensor]  # S tensors [D, B, H], contiguous
    batch_sizes: Tensor | None  # [T] int64 on the CPU; None: dense
    offsets: Tensor | None  # [T] int64: first line of each step; None: dense
    lengths: Tensor | None  # [B] int64: steps of each batch row, falling
    resets: Tensor | None  # [N] bool

    @property
    def spec(self) -> cells.Cell:
        return cells.get(self.cell)

    @property
    def reverse(self) -> bool:
        """D = 1 and its one direction is the reverse one."""
        return self.directions == REVERSE

    @property
    def back(self) -> int:
        """From this one on, the D directions go from the last step to the first."""
        return 0 if self.reverse else self.D // 2 if self.directions == BOTH else self.D


def multiply_of(dtype: torch.dtype) -> str:
    """How a scan's matrices of that dtype multiply; float32 ones as cuDNN's recurrent layers do."""
    if dtype == torch.float32:
        return "tf32" if torch.backends.cudnn.rnn.fp32_precision == "tf32" else "ieee"
    return str(dtype).removeprefix("torch.")


def float32_products(dtype: torch.dtype) -> list[str]:
    """What `fastrnn.explain` says of a scan's and of those around it; nothing of other dtypes."""
    if dtype != torch.float32:
        return []
    around = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return [
        f"  float32 products: {multiply_of(dtype)} from step to step "
        f"(torch.backends.cudnn.rnn.fp32_precision), {'tf32' if around else 'ieee'} over whole "
        "sequences (torch.backends.cuda.matmul.fp32_precision)"
    ]


def read(
    cell: str,
    input: Tensor,  # [T, B, I] or packed [N, I]
    weights: Sequence[Tensor],  # of each direction in torch.nn's order, then the cell's own
    state: Sequence[Tensor],  # S tensors [D, B, H]
    batch_sizes: Tensor | None,
    resets: Tensor | None,
    directions: int,
    project: bool,
) -> Layer:
    """The layer of a call of the ops. It holds contiguous tensors, copied only where it must."""
    ops.check_devices(input, weights, state)
    D, B, H = state[0].shape
    count = len(weights) // D
    named = [name_weights(cell, weights[d * count : (d + 1) * count], project) for d in range(D)]
    w_ih, w_hh, b_ih, b_hh, _, params, extra = zip(*named)
    offsets = lengths = None
    if batch_sizes is not None:
        offsets, lengths = steps(batch_sizes, B, input.device)
    return Layer(
        cell=cell,
        T=input.shape[0] if batch_sizes is None else len(batch_sizes),
        B=B,
        N=input.shape[:-1].numel(),
        H=H,
        D=D,
        directions=directions,
        multiply=multiply_of(input.dtype),
        device=input.device,
        w_ih=[w for w in w_ih if w is not None],
        w_hh=None if w_hh[0] is None else stack(w_hh),
        b_ih=[b for b in b_ih if b is not None],
        b_hh=None if b_hh[0] is None else stack(b_hh),
        params=None if params[0] is None else stack(params),
        extra=[e.reshape(-1, e.shape[-1]) for e in extra if e is not None],
        state=[s.contiguous() for s in state],
        batch_sizes=None if batch_sizes is None else batch_sizes.contiguous(),
        offsets=offsets,
        lengths=lengths,
        resets=None if resets is None else resets.reshape(-1).contiguous(),
    )


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """torch.stack, without a copy of a single contiguous tensor."""
    return tensors[0].unsqueeze(0).contiguous() if len(tensors) == 1 else torch.stack(tensors)


class _Steps(NamedTuple):
    key: tuple  # what the values below were computed for
    offsets: Tensor
    lengths: Tensor


_cached_steps: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def steps(batch_sizes: Tensor, B: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(offsets [T], lengths [B]) int64 on the device, from falling batch_sizes [T] on the CPU.

    Remembered with the batch_sizes: layers and backward share one copy to the device. Not from one
    stream to another, which would have to wait for that copy.
    """
    stream = None
    if device.type == "cuda":
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "input must be dense inside a CUDA graph, got a packed one (or lengths): the rows "
                "of its steps are computed on the CPU"
            )
        stream = torch.cuda.current_stream(device).cuda_stream
    if batch_sizes.is_inference():  # nobody can tell whether its values are still the same
        return _compute_steps(batch_sizes, B, device)
    key = (B, device, stream, batch_sizes._version)
    known = _cached_steps.get(batch_sizes)
    if known is None or known.key != key:
        known = _Steps(key, *_compute_steps(batch_sizes, B, device))
        _cached_steps[batch_sizes] = known
    return known.offsets, known.lengths


def _compute_steps(batch_sizes: Tensor, B: int, device: torch.device) -> tuple[Tensor, Tensor]:
    T = len(batch_sizes)
    rising = batch_sizes.flip(0)
    both = torch.empty(T + B, dtype=torch.int64, pin_memory=device.type == "cuda")
    torch.sub(batch_sizes.cumsum(0), batch_sizes, out=both[:T])
    torch.sub(T, torch.searchsorted(rising, torch.arange(B), right=True), out=both[T:])
    there = both.to(device, non_blocking=True)
    return there[:T], there[T:]
