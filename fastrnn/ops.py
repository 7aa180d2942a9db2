"""The private ops `torch.ops.fastrnn.*`: the native library, fakes and rules.

    fastrnn::forward(str cell, Tensor input, Tensor[] weights, Tensor[] state, Tensor? batch_sizes,
                     Tensor? resets, int directions, bool project, int save)
        -> (Tensor output, Tensor[] final, Tensor saved)
    fastrnn::backward(str cell, Tensor? grad_output, Tensor[] grad_final, Tensor input,
                      Tensor[] weights, Tensor[] state, Tensor output, Tensor saved,
                      Tensor? batch_sizes, Tensor? resets, int directions, bool project, int needs)
        -> (Tensor grad_input, Tensor[] grad_weights, Tensor[] grad_state)

input [T, B, I], or packed [N, I] with batch_sizes [T]; weights of each direction as torch.nn orders
them (of a cell without a recurrent product no W_hh and b_hh; in heads W_hh is [heads, G*H/heads,
H/heads]), then params where the cell has any, then its extra slots, rows as input's, [T, B, E*H] or
[N, E*H]; state S tensors [D, B, H]; output [T, B, D*H] or [N, D*H]; final S tensors [D, B, H];
saved [D, N, K+S-1, H]. With torch.nn's weight_hr [P, H], before params, output and the first state
have P for H, and saved keeps a value more. Where a backend
`reads_lengths`, batch_sizes with an input [T, B, I] are the lengths [B] of its rows, in any order:
what lies past them is not read, and is zeros in output and grad_input; of saved, N = T*B then, only
what is valid is used. batch_sizes are int64 on the CPU.

Where a backend `knows_zeros`, grad_final and, where input is not packed, state may be empty: zeros;
grad_output None is zeros. `needs` is a bit mask of the gradients that are wanted:
NEED_INPUT, NEED_STATE and `weight_bits`; a gradient of input or a weight that is not is [0], and
grad_state is empty then, and for an empty state. Directions is a bit mask: 1 forward, 2 reverse.
save: SAVE_NOTHING (saved is [0]), SAVE_ALL, or, where it `recomputes`, SAVE_PARTIAL: what backward
needs to recompute the rest [D, N, kept+S-1, H]. Where `steps` says so, a single step's input may be
[B, I], its states, output and their gradients [B, H]. `triton_forward` and `triton_backward` have
the same two schemas; `graph.py` has those for compiled graphs.

Importing `fastrnn._C` defines the native ops. A missing `_C` means a pure-Python install; one that
is there and does not load raises its own ImportError.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from . import cells, flops, per_sample, schemas

SAVE_NOTHING, SAVE_ALL, SAVE_PARTIAL = 0, 1, 2
NEED_INPUT, NEED_STATE, WEIGHT_BITS = 1, 2, (4, 8, 16, 32)  # W_ih, W_hh, b_ih, b_hh
NEED_PARAMS, NEED_PROJECTION, NEED_EXTRA = 64, 128, 256  # the cell's params, W_hr, extra slots
KIND_BITS = (*WEIGHT_BITS, NEED_PARAMS, NEED_PROJECTION, NEED_EXTRA)  # of every kind of weight
NEED_WEIGHTS = sum(KIND_BITS)
NEED_ALL = NEED_INPUT | NEED_STATE | NEED_WEIGHTS

NATIVE_BUILT = importlib.util.find_spec("fastrnn._C") is not None
if NATIVE_BUILT:
    import fastrnn._C  # noqa: F401  defines the ops

BUILD_INFO: dict[str, Any] = json.loads(torch.ops.fastrnn.build_info()) if NATIVE_BUILT else {}
# Cell -> its counts [G, S, K, kept] in C++. A build may bring cells of its own.
NATIVE_CELLS: dict[str, list[int]] = BUILD_INFO.get("cells", {})


def check_counts(known: Mapping[str, list[int]]) -> None:
    """ImportError where a cell's counts here are not those the library was compiled with."""
    for name, compiled in known.items():
        spec = cells.CELLS.get(name)
        if spec and [spec.gates, spec.states, spec.saved, spec.kept] != compiled:
            raise ImportError(
                f"the cell {name!r} must have [gates, states, saved, kept] = {compiled} as in the "
                f"native library, got {spec}"
            )


check_counts(NATIVE_CELLS)
if NATIVE_BUILT:
    schemas.check_native()


@functools.cache
def weight_bits(cell: str, weights: int, directions: int, project: bool) -> tuple[int, ...]:
    """For each of that many weights, of all directions, its bit in `needs`."""
    d = directions.bit_count()
    spec = cells.get(cell)
    own = (NEED_PARAMS,) * bool(spec.params) + (NEED_EXTRA,) * bool(spec.extra)
    count = weights // d - len(own)
    # Two products have an even number of weights and biases.
    more = (NEED_PROJECTION,) if project and spec.recurrent and count % 2 else ()
    w_ih, w_hh, b_ih, b_hh = WEIGHT_BITS
    there = (w_ih, project), (w_hh, spec.recurrent), (b_ih, project), (b_hh, spec.recurrent)
    bits = [bit for bit, has in there if has][: count - len(more)]
    return (*bits, *more, *own) * d


cells.on_add.append(weight_bits.cache_clear)


def check_devices(input: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor]) -> None:
    """The dispatcher takes a call with one tensor elsewhere to that tensor's device."""
    for name, tensors in (("weights", weights), ("states", state)):
        for tensor in tensors:
            if tensor.device != input.device:
                raise RuntimeError(
                    f"all {name} must be on the input's device {input.device}, got one on "
                    f"{tensor.device}"
                )


def fake_forward(
    cell, input, weights, state, batch_sizes, resets, directions, project, save
) -> tuple[Tensor, list[Tensor], Tensor]:
    check_devices(input, weights, state)
    spec = cells.get(cell)
    h, p = (f(spec, input, weights, project) for f in (cells.units, cells.hidden))
    d = 2 if directions == 3 else 1
    output = input.new_empty((*input.shape[:-1], d * p))
    if input.dim() == 2 and batch_sizes is None:  # a single step
        size = (input.shape[0],)
    else:
        size = (d, state[0].shape[1] if state else input.shape[1])
    final = [input.new_empty((*size, h if k else p)) for k in range(spec.states)]
    if not save:
        return output, final, input.new_empty(0)
    n = input.shape[0] if input.dim() == 2 else input.shape[0] * input.shape[1]
    values = (spec.kept if save == SAVE_PARTIAL else spec.saved) + spec.states - 1
    values += NEED_PROJECTION in weight_bits(cell, len(weights), directions, project)
    return output, final, input.new_empty((d, n, values, h))


def _fake_backward(
    cell, grad_output, grad_final, input, weights, state, output, saved, batch_sizes, resets,
    directions, project, needs,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    check_devices(input, weights, state)
    bits = weight_bits(cell, len(weights), directions, project)
    return (
        input.new_empty(input.shape if needs & NEED_INPUT else 0),
        [w.new_empty(w.shape if needs & bit else 0) for w, bit in zip(weights, bits)],
        [s.new_empty(s.shape) for s in state if needs & NEED_STATE],
    )


def one_by_one(op: Callable) -> Callable:
    """vmap rule: one call of the kernel per entry of the mapped axis, results stacked.

    An ensemble has other weights in each entry, per-sample gradients have other weight gradients:
    each entry is a scan of its own.
    """

    def rule(info, in_dims, *args):
        def entry(arg: Any, dim: Any, v: int) -> Any:
            if isinstance(arg, (list, tuple)):
                return [entry(a, d, v) for a, d in zip(arg, dim)]
            return arg if dim is None else arg.select(dim, v)

        calls = [
            op(*(entry(a, d, v) for a, d in zip(args, in_dims))) for v in range(info.batch_size)
        ]
        stacked = tuple(
            [torch.stack(ts) for ts in zip(*parts)]
            if isinstance(parts[0], (list, tuple))
            else torch.stack(parts)
            for parts in zip(*calls)
        )
        return stacked, tuple([0] * len(s) if isinstance(s, list) else 0 for s in stacked)

    return rule


def register_rules(forward: str, backward: str) -> tuple[Callable, Callable]:
    """Adds fakes, vmap rules and counts to a pair of ops, named as "fastrnn::forward"; the ops."""
    pair = []
    fakes = (forward, fake_forward, flops.forward), (backward, _fake_backward, flops.backward)
    for name, fake, formula in fakes:
        torch.library.register_fake(name, fake)
        op = getattr(torch.ops.fastrnn, name.removeprefix("fastrnn::")).default
        torch.library.register_vmap(name, one_by_one(op))
        flops.count_by(formula, op)
        pair.append(op)
    per_sample.register(*pair, SAVE_ALL)
    return pair[0], pair[1]


@torch.compiler.assume_constant_result  # torch 2.11 cannot trace it
def _has_autocast(device: str) -> bool:
    return torch.amp.is_autocast_available(device)


def autocasts(device: str) -> bool:
    """Whether torch.autocast is on for that type of device; "meta" has none."""
    return _has_autocast(device) and torch.is_autocast_enabled(device)


if NATIVE_BUILT:
    FORWARD, BACKWARD = register_rules("fastrnn::forward", "fastrnn::backward")
