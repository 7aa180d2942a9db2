"""`fastrnn.cell`: a step in plain torch becomes a cell."""

from __future__ import annotations

from collections.abc import Callable

from . import add
from .spec import Cell, Tensors

MOST_STATES = 8  # kMaxStates in csrc/cells/counts.h
PRODUCTS = ("dense", "heads", "none")


def cell(
    *,
    gates: int | None = None,
    inputs: int | None = None,
    recurrent: int | None = None,
    extra: int = 0,
    product: str = "dense",
    states: int = 1,
    params: int = 0,
    feeds: int = 0,
    late: int = 0,
    name: str | None = None,
) -> Callable[[Callable[..., Tensors]], Cell]:
    """Decorator: a function of one time step becomes a cell with kernels of its own.

        @fastrnn.cell(gates=2)
        def light_gru(x, r, state):
            z, n = torch.sigmoid(x[0] + r[0]), torch.relu(x[1] + r[1])
            return (n + z * (state[0] - n),)

        layer = fastrnn.Recurrent(light_gru, input_size=32, hidden_size=128)

    The function says what one unit does: it may use what torch has for single numbers (arithmetic,
    comparisons, `torch.where`, activations, powers), whatever it closes over must be a number. And
    it may look across the units of a row: means and sums over the last axis, `F.layer_norm`. It is
    run once, here; kernels are derived from it, and compiled when they are first needed.

    Args:
        gates: G, tensors in x and in r: `x = W_ih x_t + b_ih`, `r = W_hh h + b_hh`, each `[B, H]`
        inputs, recurrent: in place of gates, X and R: tensors in x and in r where they are not as
            many; W_ih is `[X*H, I]`, W_hh `[R*H, H]`. With product="none" inputs alone
        extra: E, further tensors at the end of x, which the caller brings for every step and row
            (masks, skips): `layer(input, extra=(..))`. They get gradients if they ask for them
        product: "dense": W_hh is a matrix `[G*H, H]`; "heads": W_hh has a block `[G*H/N, H/N]` for
            each of N heads, neighbouring units that see each other alone (the layer says N); a
            step's product costs an Nth. "none": the cell has neither W_hh nor b_hh, r is an empty
            tuple, and a unit sees no other one. A step then costs what its input costs
        states: S, tensors in `state`, `[B, H]`, and in the tuple that the function returns. The
            first is the output
        params: P, learned vectors `[H]`, a fourth argument of the function if there are any
        feeds: the place in `state` of what W_hh multiplies; the first, the output, if not said
        late: L, of the slots of W_hh the last ones, which multiply what the step makes: r has the
            others, and the function's last argument is one that gives these, once a step, for a
            tensor `[.., H]`: `(n,) = product(reset * state[0])`. Dense products alone have some
        name: what errors and `explain` call it; the function's own

    Raises `CellError` (a ValueError) for a function that is not about one unit at one step, with
    its line and the reason; ValueError for counts that no cell has.
    """
    slots = _slots(gates, inputs, recurrent, product)
    others = ("states", states, 1), ("params", params, 0), ("extra", extra, 0), ("feeds", feeds, 0)
    others += (("late", late, 0),)
    for word, count, least in (*slots, *others):
        if not isinstance(count, int) or isinstance(count, bool) or count < least:
            raise ValueError(f"{word} must be a whole number from {least} on, got {count!r}")
    if states > MOST_STATES:
        raise ValueError(f"states must be at most {MOST_STATES}, got {states}")
    if feeds >= (1 if product == "none" else states):
        has = f"product={product!r}" if product == "none" else f"states={states}"
        raise ValueError(
            f"feeds must be the place of a state that W_hh multiplies ({has}), got {feeds}"
        )
    x, r = slots[0][1], slots[-1][1]
    apart = r if r != x else None
    if late and product != "dense":
        raise ValueError(f"late must be 0 with product={product!r}, got {late}")
    if late >= r:
        raise ValueError(f"late must be below the {r} slots of W_hh, got {late}")

    def declare(step: Callable[..., Tensors]) -> Cell:
        if not callable(step) or not hasattr(step, "__code__"):
            raise TypeError(f"a cell's step must be a function, got {type(step).__name__}")
        from .derive import derive  # networkx takes 0.15 s to import

        derived = derive(step, x, states, params, product, apart, extra, feeds, late)
        title = name or step.__name__
        kept = int(derived.kept_gate is not None)
        if derived.across or late:  # their gates are not recomputed: all is kept
            kept = len(derived.saved)
        made = Cell(
            f"{title}@{derived.digest()}", x, states, step, len(derived.saved), kept, params,
            derived=derived, product=product, slots=apart, extra=extra, feeds=feeds, late=late,
        )  # fmt: skip
        for attribute in ("__module__", "__doc__", "__qualname__", "__name__"):
            object.__setattr__(made, attribute, getattr(step, attribute))
        return add(made)

    return declare


def _slots(
    gates: object, inputs: object, recurrent: object, product: object
) -> tuple[tuple[str, object, int], ...]:
    """(what the caller calls them, how many, at least): the slots of x, and of r where it has some
    of its own."""
    if product not in PRODUCTS:
        raise ValueError(f"product must be one of {', '.join(PRODUCTS)}, got {product!r}")
    if product == "none":
        for word, count in (("gates", gates), ("recurrent", recurrent)):
            if count is not None:
                raise ValueError(
                    f'{word} must not be given with product="none", got {count!r}: inputs says how '
                    "many tensors x has, and r has none"
                )
        return (("inputs", inputs, 1),)
    if inputs is None and recurrent is None:
        return (("gates", gates, 1),)
    if gates is not None:
        raise ValueError(
            f"gates must not be given with inputs and recurrent, got {gates!r}: gates is as many "
            "tensors in x as in r"
        )
    return ("inputs", inputs, 1), ("recurrent", recurrent, 1)
