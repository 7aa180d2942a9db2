"""What test_fuzz.py runs: a call of a layer of fastrnn's or torch.nn's; how two are compared."""

from typing import NamedTuple

import torch
from helpers import flat
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

# Of the largest value compared. Layers here are small: float32 rounds to about 1e-6 of it.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-5}


class Call(NamedTuple):
    """A call of a layer, and the loss of its results; the same numbers for the same call."""

    form: str  # dense, unbatched, packed (sorted), packed_unsorted, lengths
    t: int
    b: int
    hx: bool
    wants: str  # which arguments require grad: nothing, input, both
    loss: str  # of all, output, states, last_state; plain_sum: of all, by expanded gradients
    memory: str  # of the input: contiguous, transposed, sliced
    seed: int


def calls(forms=("dense", "unbatched", "packed", "packed_unsorted", "lengths"), shortest=1):
    return st.builds(
        Call,
        form=st.sampled_from(forms),
        t=st.integers(shortest, 5),
        b=st.integers(1, 4),
        hx=st.booleans(),
        wants=st.sampled_from(["nothing", "input", "both"]),
        loss=st.sampled_from(["all", "output", "states", "last_state", "plain_sum"]),
        memory=st.sampled_from(["contiguous", "transposed", "sliced"]),
        seed=st.integers(0, 999),
    )


def dtype_of(layer: nn.Module) -> torch.dtype:
    return layer.weight_hh_l0.dtype


class Run:
    """One call of one layer: its arguments, and what it returned."""

    def __init__(self, layer: nn.Module, call: Call):
        self.layer, self.call = layer, call
        self.random = torch.Generator().manual_seed(call.seed)
        self.lengths = torch.randint(1, call.t + 1, (call.b,), generator=self.random)
        if call.form == "packed":
            self.lengths = self.lengths.sort(descending=True).values
        self.x = self._input().requires_grad_(call.wants != "nothing")
        self.state = self._state() if call.hx else None
        for s in self.states():
            s.requires_grad_(call.wants == "both")

    def _randn(self, *shape: int) -> Tensor:
        """The same numbers in each dtype."""
        numbers = torch.randn(*shape, generator=self.random, dtype=torch.float64)
        return numbers.to(dtype_of(self.layer))

    def _input(self) -> Tensor:
        t, b, i = self.call.t, self.call.b, self.layer.input_size
        shape = (t, i) if self.call.form == "unbatched" else (t, b, i)
        if self.layer.batch_first and len(shape) == 3:
            shape = (b, t, i)
        x = self._randn(*shape)
        if self.call.memory == "transposed":
            x = x.transpose(0, 1).contiguous().transpose(0, 1)
        if self.call.memory == "sliced":
            x = nn.functional.pad(x, (1, 2))[..., 1:-2]
        return x.detach()

    def _state(self):
        layer = self.layer
        rows = layer.num_layers * (2 if layer.bidirectional else 1)
        batch = () if self.call.form == "unbatched" else (self.call.b,)
        states = [self._randn(rows, *batch, layer.hidden_size) for _ in range(2)]
        return tuple(states) if layer.mode == "LSTM" else states[0]

    def forward(self, layer=None) -> "Run":
        """Fills in tensors: the output and the final states. layer: stands in for the real one."""
        torch.manual_seed(self.call.seed)  # dropout's random numbers
        counted = self.layer.calls.count
        self.tensors = flat(self._call(layer or self.layer))
        assert self.layer.calls.count == counted + 1, "the forward hook did not run once"
        return self

    def _call(self, layer):
        if self.call.form != "lengths":
            return self._called(layer)
        # dropout draws for padded rows too where they are not packed
        before, self.layer.dropout = self.layer.dropout, 0.0
        try:
            return self._called(layer)
        finally:
            self.layer.dropout = before

    def _called(self, layer):
        first, form = self.layer.batch_first, self.call.form
        if form in ("dense", "unbatched"):
            return layer(self.x, self.state)
        if form == "lengths" and hasattr(self.layer, "recompute_gates"):  # fastrnn's
            return layer(self.x, self.state, lengths=self.lengths)
        packed = pack_padded_sequence(self.x, self.lengths, first, enforce_sorted=form == "packed")
        output, final = layer(packed, self.state)
        if form == "lengths":
            output = pad_packed_sequence(output, first, total_length=self.call.t)[0]
        return output, final

    def results(self) -> list[Tensor]:
        """For threads, which have a grad mode of their own, and share torch's random numbers."""
        with torch.no_grad():
            return flat(self._call(self.layer))

    def forward_in_chunks(self, at: int) -> "Run":
        """The same in two parts, each of its own call. at: where the second begins."""
        torch.manual_seed(self.call.seed)
        axis = 1 if self.layer.batch_first and self.call.form != "unbatched" else 0
        outputs, state = [], self.state
        for part in self.x.tensor_split([at], axis):
            output, state = self.layer(part, state)
            outputs.append(output)
        self.tensors = [torch.cat(outputs, axis), *flat([state])]
        return self

    def states(self) -> list[Tensor]:
        return [] if self.state is None else flat([self.state])

    def arguments(self) -> list[Tensor]:
        return [self.x, *self.states()]

    def leaves(self) -> list[Tensor]:
        tensors = [*self.arguments(), *self.layer.parameters()]
        return [t for t in tensors if t.requires_grad]

    def loss(self) -> Tensor:
        tensors = self.tensors
        if self.call.loss == "plain_sum":
            return sum(t.sum() for t in tensors)
        random = torch.Generator().manual_seed(self.call.seed)
        weights = [torch.randn(t.shape, generator=random, dtype=torch.float64) for t in tensors]
        terms = [(t * w.to(t)).sum() for t, w in zip(tensors, weights)]
        parts = {"output": terms[:1], "states": terms[1:], "last_state": terms[-1:]}
        return sum(parts.get(self.call.loss, terms))

    def gradients(self, **options) -> list[Tensor | None]:
        """Of the loss, for the leaves."""
        loss = self.loss()
        if not loss.requires_grad:
            return []
        return list(torch.autograd.grad(loss, self.leaves(), allow_unused=True, **options))


def agree(ours, theirs, dtype: torch.dtype, what: str) -> None:
    """Two lists of tensors or None, equal but for rounding."""
    ours, theirs = list(ours), list(theirs)
    assert [t is None for t in ours] == [t is None for t in theirs], f"{what}: None"
    pairs = [(a.detach(), b.detach()) for a, b in zip(ours, theirs) if a is not None]
    for a, b in pairs:
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{what}: {a.shape}, {a.dtype}"
    size = max((b.abs().max().item() for _, b in pairs if b.numel()), default=0.0)
    allowed = TOLERANCE[dtype] * (1 + size)
    for k, (a, b) in enumerate(pairs):
        gap = (a - b).abs().max().item() if a.numel() else 0.0
        assert gap <= allowed, f"{what}, tensor {k}: differs by {gap:.3g}, allowed {allowed:.3g}"


class Counter:
    """A forward hook that deepcopy and pickle take along."""

    def __init__(self):
        self.count = 0

    def __call__(self, module, arguments, result):
        self.count += 1
