"""From where the dots leave their sums to where tiles are loaded and stored.

The sums of a step lie as the matrix instructions leave them, and Triton would rather move every
tile that meets them, each through shared memory with two barriers. `tl.split` wants its two parts
in one thread: that makes it move the sums, all at once, to the layout of loads and stores, in which
the cell then runs.
"""

from __future__ import annotations

import triton.language as tl

from .tiles import part


@part
def _halve(sums):
    """[ROWS, UNITS, 2 n] -> the even and the odd ones, each [ROWS, UNITS, n]."""
    shape: tl.constexpr = (sums.shape[0], sums.shape[1], sums.shape[2] // 2, 2)
    return tl.split(tl.reshape(sums, shape))


@part
def _tuple(sums):
    """[ROWS, UNITS, n] -> n tiles [ROWS, UNITS]; n is a power of two."""
    shape: tl.constexpr = (sums.shape[0], sums.shape[1])
    tiles = (sums,)
    for i in tl.static_range(5):
        if sums.shape[2] >> i > 1:  # the tiles so far stand in the order of the i lowest bits of n
            even, odd = (), ()
            for j in tl.static_range(1 << i):
                a, b = _halve(tiles[j])
                even, odd = even + (a,), odd + (b,)
            tiles = even + odd
    flat = ()
    for i in tl.static_range(sums.shape[2]):
        flat = flat + (tl.reshape(tiles[i], shape),)
    return flat


@part
def _turn(sums, SHARES: tl.constexpr, GATES: tl.constexpr, UNITS: tl.constexpr, ROWS: tl.constexpr):
    """[SHARES, GATES*UNITS, ROWS] -> for each gate [ROWS, UNITS], the sum over the shares."""
    sums = tl.permute(tl.reshape(sums, (SHARES, GATES, UNITS, ROWS)), (3, 2, 1, 0))
    sums = tl.reshape(sums, (ROWS, UNITS, GATES * SHARES))
    for i in tl.static_range(5):
        if SHARES >> i > 1:
            a, b = _halve(sums)
            sums = a + b
    return _tuple(sums)


@part
def _turn_alone(start, sums, UNITS: tl.constexpr, ROWS: tl.constexpr):
    """start [ROWS, UNITS] + sums [UNITS, ROWS] turned, by way of even and odd units."""
    shape: tl.constexpr = (ROWS, UNITS // 2, 2)
    a, b = tl.split(tl.permute(tl.reshape(sums, (UNITS // 2, 2, ROWS)), (2, 0, 1)))
    even, odd = tl.split(tl.reshape(start, shape))
    return tl.reshape(tl.join(even + a, odd + b), (ROWS, UNITS))


@part
def turn_onto(
    start, sums, SHARES: tl.constexpr, G: tl.constexpr, GATES: tl.constexpr,
    UNITS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """start + what the dots gave, for each of G gates [ROWS, UNITS]."""
    if SHARES * GATES == 1:
        result = (_turn_alone(start[0], sums, UNITS, ROWS),)
    else:
        turned = _turn(sums, SHARES, GATES, UNITS, ROWS)
        result = ()
        for g in tl.static_range(G):
            result = result + (start[g] + turned[g],)
    return result
