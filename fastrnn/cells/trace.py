"""A step written in torch, and torch's own derivative of it, as one graph.

The step runs once, on small float64 tensors, under a dispatch mode that sees each operation of
ATen: whatever functions, methods and operators a step is written with, compositions and custom
`autograd.Function`s too, only those arrive here, and their derivatives are autograd's. (A
`__torch_function__` trace would have to know torch's whole surface, and each derivative;
AOTAutograd gives the same graph, with a choice of what to save that is made for whole tensors.)
"""

from __future__ import annotations

import inspect
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import torch_private
from . import activations  # noqa: F401  adds to LOWER
from .across import ACROSS, RESHAPES, SHAPE, UNITS, reshaped
from .arguments import Argument, Missing, Product
from .graph import Graph, Node
from .lowering import LOWER, Refused, mask, number
from .why_not import ON_VALUE, ON_VALUES, why_not

_SAME = ("detach", "alias", "clone", "contiguous", "lift_fresh", "lift_fresh_copy", "positive")
_FILLED = {"zeros": 0.0, "zeros_like": 0.0, "new_zeros": 0.0, "ones": 1.0, "ones_like": 1.0,
           "new_ones": 1.0, "empty": math.nan, "empty_like": math.nan,
           "new_empty": math.nan}  # fmt: skip
_GIVEN = {"full": 1, "full_like": 1, "new_full": 2, "scalar_tensor": 0, "fill": 1}


class CellError(ValueError):
    """A step that cannot become a kernel: the function, the line, the reason."""


@dataclass(frozen=True)
class Traced:
    """The nodes of a step's results and of their gradients, seeds d[k] for state k."""

    next: tuple[Node, ...]
    dx: tuple[Node, ...]
    dr: tuple[Node, ...]
    dprev: tuple[Node, ...]
    dparam: tuple[Node, ...]
    dextra: tuple[Node, ...]
    values: dict[str, tuple[Tensor, ...]]  # of the leaves, and of all results, as torch has them
    asked: tuple[Node, ...] = ()  # what late slots multiply, whose seed is the last of d


def trace(
    step: Callable, gates: int, states: int, params: int, product: str = "dense",
    slots: int | None = None, extra: int = 0, late: int = 0,
) -> Traced:  # fmt: skip
    """Runs the step once. CellError for what is no unit-wise step of these counts."""
    if torch_private.DispatchMode is None:
        raise CellError(f"{title(step)} cannot be traced: this torch has no TorchDispatchMode")
    tracer = _Tracer(step)
    recurrent = 0 if product == "none" else gates if slots is None else slots
    sizes = {"x": gates, "r": recurrent, "prev": states, "param": params, "extra": extra}
    sizes["d"] = states + (late > 0)
    generator = torch.Generator().manual_seed(0)
    leaves: dict[str, tuple[Tensor, ...]] = {}
    for op, count in sizes.items():
        shape = SHAPE[1:] if op == "param" else SHAPE  # as steps are given them
        drawn = torch.randn((count, *shape), generator=generator, dtype=torch.float64)
        leaves[op] = tuple(t.clone().requires_grad_(op != "d") for t in drawn)
        for at, tensor in enumerate(leaves[op]):
            tracer.bind(tensor, tracer.graph.leaf(op, at))
    x_says = r_says = f"gates={gates}"
    if slots is not None or not recurrent:
        x_says = f"inputs={gates}"
        r_says = f"recurrent={slots}" if recurrent else f"product={product!r}"
    words = [
        ("x", x_says + f", extra={extra}" * bool(extra), (*leaves["x"], *leaves["extra"])),
        ("r", r_says + f", late={late}" * bool(late), leaves["r"][: recurrent - late]),
        ("state", f"states={states}", leaves["prev"]),
        *[("p", f"params={params}", leaves["param"])] * bool(params),
    ]
    product_of = Product(leaves["r"][recurrent - late :])
    arguments = [*(Argument(*word) for word in words), *[product_of] * bool(late)]
    _check_signature(step, [*(word for word, _, _ in words), *["product"] * bool(late)])
    with torch.enable_grad(), tracer:
        try:
            given = step(*arguments)
        except Missing as missing:
            raise tracer.error(str(missing), missing.__traceback__) from None
        except RuntimeError as error:  # torch's: of an `if`, a conversion, shapes
            reason = f"torch says: {error}"
            if "ambiguous" in reason or "Scalar" in reason:
                reason += f" ({ON_VALUE})"
            raise tracer.error(reason, error.__traceback__) from error
        next, asked = _results(step, given, states), ()
        if late:
            asked = (_asked(step, product_of, late),)
            if tracer.node(*asked).is_mask:
                raise CellError(f"{title(step)} gives product a comparison: use torch.where")
        for k, tensor in enumerate(next):
            if tracer.node(tensor).is_mask:
                raise tracer.error(f"state {k} that it returns is a comparison: use torch.where")
        inputs = [t for op in ("x", "r", "prev", "param", "extra") for t in leaves[op]]
        given = [(n, d) for n, d in zip((*next, *asked), leaves["d"]) if n.requires_grad]
        grads: Sequence[Tensor | None] = [None] * len(inputs)
        if given:
            tracer.backward = True
            outputs, seeds = zip(*given)
            grads = torch.autograd.grad(outputs, inputs, seeds, allow_unused=True)
    zero = tracer.graph.const(0.0)
    nodes = [zero if g is None else tracer.node(g) for g in grads]
    zeros = torch.zeros(SHAPE, dtype=torch.float64)
    full = [zeros if g is None else g.detach() for g in grads]
    split = [0, *itertools.accumulate((gates, recurrent, states, params, extra))]
    names = ("dx", "dr", "dprev", "dparam", "dextra")
    parts = {n: tuple(nodes[a:b]) for n, a, b in zip(names, split, split[1:])}
    values = {n: tuple(full[a:b]) for n, a, b in zip(names, split, split[1:])}
    values |= {op: tuple(t.detach().expand(SHAPE) for t in ts) for op, ts in leaves.items()}
    values |= {"next": tuple(n.detach() for n in next), "asked": tuple(a.detach() for a in asked)}
    given = dict(next=tuple(map(tracer.node, next)), asked=tuple(map(tracer.node, asked)))
    return Traced(**given, **parts, values=values)


def title(step: Callable) -> str:
    """What errors call a step."""
    return getattr(step, "__qualname__", type(step).__name__)


def _check_signature(step: Callable, words: Sequence[str]) -> None:
    try:
        inspect.signature(step).bind(*words)
    except TypeError:
        raise CellError(
            f"{title(step)} must take {len(words)} arguments: {', '.join(words)}"
        ) from None


def _results(step: Callable, given: object, states: int) -> tuple[Tensor, ...]:
    where = f"{title(step)} must return a tuple of {states} tensors [.., H] (states={states})"
    if not isinstance(given, (tuple, list)):
        raise CellError(f"{where}, got {type(given).__name__}")
    if len(given) != states:
        raise CellError(f"{where}, got {len(given)}")
    for k, tensor in enumerate(given):
        if not isinstance(tensor, Tensor):
            raise CellError(f"{where}, got {type(tensor).__name__} at place {k}")
    return tuple(map(_whole, given))


def _asked(step: Callable, product: Product, late: int) -> Tensor:
    if product.asked is None:
        raise CellError(f"{title(step)} must call product, its last argument (late={late})")
    if product.asked.dim() > 2 or product.asked.shape[-1] != UNITS:
        raise CellError(f"{title(step)} must call product with a tensor [.., H]")
    return _whole(product.asked)


def _whole(tensor: Tensor) -> Tensor:
    return tensor if tensor.shape == SHAPE else tensor.expand(SHAPE)


class _Tracer(torch_private.DispatchMode or object):
    """Runs each operation as it is, and makes its nodes."""

    def __init__(self, step: Callable):
        super().__init__()
        self.graph = Graph()
        self.backward = False
        self._step = step
        function = inspect.unwrap(step)
        self._code = getattr(function, "__code__", None) or type(step).__call__.__code__
        self._known: dict[int, tuple[Tensor, Node]] = {}  # by id: the tensors are kept alive
        self._repeated: set[int] = set()  # ids of gradients that all units of a row have alike

    def bind(self, tensor: Tensor, node: Node) -> None:
        self._known[id(tensor)] = tensor, node

    def node(self, tensor: Tensor) -> Node:
        """The node of a tensor: one that was seen, or a number that the step closes over."""
        known = self._known.get(id(tensor))
        if known is not None:
            return known[1]
        if tensor.requires_grad:
            raise self.error(
                "it reads a tensor that needs a gradient and is no argument: make it a parameter "
                "of the cell (params=)"
            )
        if tensor.dim() == 0:
            return self.graph.const(float(tensor.detach().item()))
        raise self.error(
            f"it reads a tensor of shape {list(tensor.shape)} that is no argument: only numbers "
            "and tensors without axes can be closed over; learned vectors are params"
        )

    def error(self, reason: str, raised=None) -> CellError:
        """The error at the step's line: that which runs, or that which raised a traceback."""
        code = self._code
        while raised is not None and raised.tb_frame.f_code is not code:
            raised = raised.tb_next
        frame = None if raised else self._frame()
        line = raised.tb_lineno if raised else frame.f_lineno if frame else code.co_firstlineno
        return CellError(f"{title(self._step)} ({code.co_filename}:{line}): {reason}")

    def _frame(self):
        """The step's own frame, if the step is running."""
        frame = sys._getframe(1)
        while frame is not None and frame.f_code is not self._code:
            frame = frame.f_back
        return frame

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self._name_locals()
        name = func.overloadpacket.__name__
        in_place = func._schema.is_mutable and name.endswith("_") and not name.startswith("__")
        try:
            if name in RESHAPES:
                results = func(*args, **kwargs)
                nodes = self._reshaped(args[0], results)
            else:
                nodes = self._lower(name.removesuffix("_") if in_place else name, args, kwargs)
                results = func(*args, **kwargs)
        except Refused as refused:
            where = "its derivative" if self.backward else "it"
            raise self.error(f"{where} uses torch's {name!r}: {refused}") from None
        for tensor, node in zip(*map(_several, (results, nodes))):
            self.bind(tensor, node)
        return results

    def _lower(self, name: str, args: tuple, kwargs: dict):
        graph = self.graph
        if name in _SAME:
            return self.node(args[0])
        if name in _FILLED:
            return graph.const(_FILLED[name])
        if name in _GIVEN:
            value = args[_GIVEN[name]]
            if isinstance(value, Tensor):
                return self.node(value)
            like = args[0] if isinstance(args[0], Tensor) else torch.empty(())
            # rounded as torch does: torch.where(mask, 0.1, 0.0) is of the default dtype
            return graph.const(torch.tensor(value, dtype=kwargs.get("dtype") or like.dtype).item())
        if name == "_to_copy":
            return self._converted(self.node(args[0]), args[0].dtype, kwargs.get("dtype"))
        if name in ON_VALUES and self.node(args[0]).op == "const":
            return ()
        if name == "div" and self._by_units(*args[:2]):
            return graph.make("div", self.node(args[0]), graph.leaf("units", 0))
        if name in ACROSS:
            return ACROSS[name](graph, self.node, self.backward, *args, **kwargs)
        if name not in LOWER:
            raise Refused(why_not(name))
        nodes = [self.node(a) if isinstance(a, Tensor) else a for a in args]
        named = {k: self.node(a) if isinstance(a, Tensor) else a for k, a in kwargs.items()}
        return LOWER[name](graph, *nodes, **named)

    def _reshaped(self, before: Tensor, after: Tensor) -> Node:
        node = reshaped(self.node(before), before, after)
        if self.backward and UNITS in after.shape and UNITS not in before.shape:
            self._repeated.add(id(after))
        return node

    def _by_units(self, a: Tensor, b: object) -> bool:
        """Is this the derivative of a mean: a gradient for each unit alike, by their number?"""
        return (
            id(a) in self._repeated and (not isinstance(b, Tensor) or b.dim() == 0) and b == UNITS
        )

    def _converted(self, node: Node, dtype: torch.dtype, to: torch.dtype | None) -> Node:
        if to is None or to == dtype:
            return node
        if to == torch.bool:
            return mask(self.graph, node)
        if to.is_floating_point and (node.is_mask or node.op == "const"):
            return number(self.graph, node)
        raise Refused(f"it converts to {to}, and a kernel computes in one precision")

    def _name_locals(self) -> None:
        """Nodes get the names that the step has for their tensors."""
        frame = self._frame()
        for name, value in frame.f_locals.items() if frame else ():
            known = self._known.get(id(value)) if isinstance(value, Tensor) else None
            if known is not None and not known[1].name and not known[1].leaf:
                known[1].name = name


def _several(value) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
