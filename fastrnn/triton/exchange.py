"""What the programs that share batch rows tell each other at every step.

Where several programs share R, each computes some units of its rows and needs the operand
of the next dot (h forward, dL/dr backward) from all of them. A value travels as one word beside the
number of its publication, so that whoever reads the word knows whether the value has come: there is
no flag, no fence and no order among words. `words` [2, D, B, columns] holds two publications in
turn. That is enough: a program publishes number n + 2 only after it has read all of n + 1, which
the others published after they had read all of n. Words start as zeros, numbers at 1; they wrap.

An exchange is (words, words of a slot, first word of each batch row [ROWS], which rows there are).
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import part


@part
def pause():
    """Called where a program waits for others. In the interpreter, tests let those run here."""


@part
def publish(exchange, number, columns, inside, tile, DTYPE: tl.constexpr):
    """Publishes tile [ROWS, UNITS], as DTYPE, in the columns [UNITS] of publication `number`."""
    words, slot, rows, there = exchange
    word: tl.constexpr = words.dtype.element_ty
    half: tl.constexpr = word.primitive_bitwidth // 2
    bits = tile.to(DTYPE).to(tl.int16 if half == 16 else tl.int32, bitcast=True).to(word)
    tagged = (bits & ((1 << half) - 1)) | (tl.cast(number, word) << half)
    at = (words + (number & 1) * slot + rows)[:, None] + columns[None, :]
    # .cg: straight to L2, which is where the others read
    tl.store(at, tagged, mask=there[:, None] & inside[None, :], cache_modifier=".cg")


@part
def _peek(exchange, number, k, H: tl.constexpr, FIRST: tl.constexpr, COUNT: tl.constexpr):
    """The words as they stand; those outside H or of no row look as if they had come."""
    words, slot, rows, there = exchange
    word: tl.constexpr = words.dtype.element_ty
    want = tl.cast(number, word) << (word.primitive_bitwidth // 2)
    at = (words + (number & 1) * slot + rows)[None, None, :] + k[:, :, None]
    mask = tl.broadcast_to(there[None, None, :], at.shape)
    if k.shape[0] * k.shape[1] > H:
        mask = mask & (k < H)[:, :, None]
    seen = ()
    for i in tl.static_range(COUNT):
        seen = seen + (tl.load(at + (FIRST + i) * H, mask=mask, other=want, volatile=True),)
    return seen


@triton.jit
def _or(a, b):
    return a | b


@part
def _incomplete(exchange, number, seen, COUNT: tl.constexpr):
    """Whether the number beside any value is another one."""
    word: tl.constexpr = exchange[0].dtype.element_ty
    half: tl.constexpr = word.primitive_bitwidth // 2
    want = tl.cast(number, word) << half
    other = seen[0] ^ want
    for i in tl.static_range(1, COUNT):
        other = other | (seen[i] ^ want)
    return (tl.reduce(other, None, _or) >> half) != 0


@part
def receive(
    exchange, number, k,
    H: tl.constexpr, FIRST: tl.constexpr, COUNT: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """Waits for a publication's columns k of COUNT gates from FIRST on: tiles [*k.shape, ROWS]."""
    half: tl.constexpr = exchange[0].dtype.element_ty.primitive_bitwidth // 2
    seen = _peek(exchange, number, k, H, FIRST, COUNT)
    while _incomplete(exchange, number, seen, COUNT):
        pause()
        seen = _peek(exchange, number, k, H, FIRST, COUNT)
    values = ()
    for i in tl.static_range(COUNT):
        bits = seen[i].to(tl.int16 if half == 16 else tl.int32)
        values = values + (bits.to(DTYPE, bitcast=True),)
    return values
