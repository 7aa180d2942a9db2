"""Extra slots in a scan kernel: read where the caller has them, or masks drawn from a counter.

`fastrnn.drawn` says what masks are drawn from, and has them in torch. Here the numbers of each
direction are uint8, [8 + 11*E + 4*B], those of rows always with them. A step's keys are those of
[ROWS], its words those of a tile [ROWS, UNITS].
"""

from __future__ import annotations

import triton.language as tl

from .tiles import load_tiles, locate, part, step_time


@part
def _sum_bytes(at, COUNT: tl.constexpr, mask):
    """COUNT bytes, the lowest first, as uint32."""
    total = tl.load(at, mask=mask, other=0).to(tl.uint32)
    for i in tl.static_range(1, COUNT):
        total = total | (tl.load(at + i, mask=mask, other=0).to(tl.uint32) << (8 * i))
    return total


@part
def _keys(time, rows, number, seed):
    """The key of each row's word: two of Philox4x32-10's four."""
    nothing = rows ^ rows
    low, high = (time & 0xFFFFFFFF).to(tl.uint32), ((time >> 32) & 0xFFFFFFFF).to(tl.uint32)
    word = tl.full(rows.shape, number, tl.uint32)
    key = tl.philox(seed, nothing | low, rows, word, nothing | high)
    return key[0], key[1]


@part
def begin_extra(extra, d, tile, N, H: tl.constexpr, E: tl.constexpr, DRAWN: tl.constexpr):
    """What `load_extra` reads: a pointer, or all of the masks that no step changes."""
    if DRAWN:
        batch = tile[0]
        numbers = extra + d * (8 + 11 * E + 4 * tile[3])
        at = numbers + 8
        low, high = _sum_bytes(numbers, 4, True), _sum_bytes(numbers + 4, 4, True)
        seed = low.to(tl.uint64) | (high.to(tl.uint64) << 32)
        rows = _sum_bytes(at + 11 * E + 4 * batch, 4, batch < tile[3])
        each, bounds, below, other, always = (), (), (), (), ()
        for k in tl.static_range(E):
            kind = tl.load(at + 11 * k).to(tl.int32)
            rate = tl.load(at + 11 * k + 10).to(tl.float32) / 256
            for i in tl.static_range(1, 8):
                rate = (rate + tl.load(at + 11 * k + 10 - i).to(tl.float32)) / 256
            each = each + (kind != 1,)
            bounds = bounds + (_sum_bytes(at + 11 * k + 1, 2, True),)
            below = below + (tl.where(kind == 0, 1.0, 0.0),)
            other = other + (tl.where(kind == 0, 0.0, 1 / (1 - rate)),)
        for q in tl.static_range((E + 1) // 2):
            always = always + (_keys(tl.full((), -1, tl.int64), rows, q, seed),)
        source = seed, rows, always, each, bounds, below, other
    else:
        source = extra + d * N * (E * H)
    return source


@part
def _draw(j, tile, source, units, E: tl.constexpr):
    seed, rows, always, each, bounds, below, other = source
    time = step_time(j, tile)
    tiles = ()
    for q in tl.static_range((E + 1) // 2):
        now = _keys(time, rows, q, seed)
        for k in tl.static_range(2 * q, 2 * q + 2 if 2 * q + 2 < E else E):
            first = tl.where(each[k], now[0], always[q][0])
            second = tl.where(each[k], now[1], always[q][1])
            x = units.to(tl.uint32)[None, :] + first[:, None]
            x = ((x ^ (x >> 17)) * 0xED5AD4BB) ^ second[:, None]
            x = (x ^ (x >> 11)) * 0xAC4C1B51
            x = (x ^ (x >> 15)) * 0x31848BAB
            x = x ^ (x >> 14)
            bits = x >> 16 if k % 2 else x & 0xFFFF
            tiles = tiles + (tl.where(bits < bounds[k], below[k], other[k]),)
    return tiles


@part
def load_extra(
    j, tile, extra, units, H: tl.constexpr, E: tl.constexpr, DRAWN: tl.constexpr,
    RAGGED: tl.constexpr,
):  # fmt: skip
    """E tiles of the extra slots of step j; extra: of `begin_extra`."""
    if E:
        if DRAWN:
            tiles = _draw(j, tile, extra, units, E)
        else:
            lines, valid = locate(j, tile, RAGGED)
            tiles = load_tiles(extra + lines * (E * H), valid, units, H, H, E)
    else:
        tiles = ()
    return tiles
