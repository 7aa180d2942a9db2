"""What a recurrent layer is, whatever its cell: weights, arguments, results as torch.nn's.

The base class is torch.nn.RNNBase, so parameters, names, initialisation and state_dict are those of
torch.nn. (torch.compile would refuse a subclass of nn.RNN, nn.LSTM or nn.GRU; isinstance says that
they are, see face.py.) Weights are read from the module at each call, never cached.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from . import cells, checks, extras, functional, masks, ragged, torch_private
from .face import HasFace


class Layer(HasFace, nn.RNNBase):
    """What all layers share; one adds its constructor, and what it says of its cell.

    recompute_gates: of the values that LSTM and GRU keep for backward, keep fewer (on the CPU 2 of
    5 and 1 of 4) and recompute the rest a block of steps at a time: an eighth to a quarter more
    time in training. Triton kernels keep none and run the forward scan again: about a third more.
    FastRNN has nothing to leave out; the reference backend ignores it.
    zoneout: the probability with which a unit keeps its state in a step of training (Krueger et
    al., arXiv 1606.01305), or one for each state, as (h, c); evaluation takes the expectation.
    recurrent_dropout: the probability with which, in training, a unit of h is hidden from the next
    step, whose others are scaled by 1 / (1 - p), as Keras has it: recurrent_mask="sequence" draws
    one mask for all steps (Gal and Ghahramani, arXiv 1512.05287), "step" one for each. The output
    is h itself. Masks are drawn from a counter in the kernels, for each row, layer and direction;
    seeds come from torch's generator. Both are kernels derived from the cell's step (not in CUDA:
    Triton has them there).
    """

    cell: str  # its name
    states = 1  # S
    extra_slots = 0  # E
    hx_names: tuple[Sequence[str], str]  # where S > 1: of each state, and of all, for errors
    backend: str
    recompute_gates = False
    heads: int | None = None  # N, of a cell whose recurrent product has a block for each head
    zoneout: tuple[float, ...] = ()  # of each state
    recurrent_dropout = 0.0
    recurrent_mask = "sequence"

    def __init__(
        self, cell: str, mode: str, *arguments, device, dtype, backend: str, recompute_gates: bool,
        zoneout: float | Sequence[float] = 0.0, recurrent_dropout: float = 0.0,
        recurrent_mask: str = "sequence",
    ) -> None:  # fmt: skip
        # torch.nn checks the arguments, up to proj_size. It has no weights for cells but its own.
        super().__init__("RNN_TANH", *arguments, device="meta")
        self.mode = mode
        self.cell = cell
        self.backend = checks.backend(backend)
        self.recompute_gates = recompute_gates
        spec = cells.get(cell)
        self.zoneout = masks.read_zoneout(zoneout, spec, self.proj_size)
        self.recurrent_dropout = masks.read_dropout(
            recurrent_dropout, recurrent_mask, spec, self.proj_size
        )
        self.recurrent_mask = recurrent_mask
        self._parameters.clear()
        self._all_weights = []
        for layer in range(self.num_layers):
            for suffix in ("", "_reverse")[: 2 if self.bidirectional else 1]:
                shapes = self._weight_shapes(cells.get(cell), layer)
                self._all_weights.append([f"{kind}_l{layer}{suffix}" for kind in shapes])
                for name, shape in zip(self._all_weights[-1], shapes.values()):
                    empty = torch.empty(shape, device=device, dtype=dtype)
                    self.register_parameter(name, nn.Parameter(empty))
        self._flat_weights_names = sum(self._all_weights, [])
        self.reset_parameters()

    def _weight_shapes(self, spec: cells.Cell, layer: int) -> dict[str, tuple[int, ...]]:
        """The weights of one direction of a layer, in order."""
        h, proj = self.hidden_size, self.proj_size
        out, rows, back = proj or h, spec.gates * h, spec.recurrent * h
        features = out * (2 if self.bidirectional else 1) if layer else self.input_size
        hidden = (back, out)
        if self.heads is not None:
            hidden = (self.heads, rows // self.heads, h // self.heads)
        shapes = {"weight_ih": (rows, features)} | ({"weight_hh": hidden} if back else {})
        if self.bias:
            shapes |= {"bias_ih": (rows,)} | ({"bias_hh": (back,)} if back else {})
        if proj:
            shapes["weight_hr"] = (proj, h)
        if spec.params:
            shapes["params"] = (spec.params, h)
        return shapes

    # torch.nn keeps a flat list of weights beside the parameters, for cuDNN; here it is derived.
    @property
    def _flat_weights(self) -> list[Tensor | None]:
        return [getattr(self, name, None) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, weights: Sequence[Tensor]) -> None:
        for name, weight in zip(self._flat_weights_names, weights):
            setattr(self, name, weight)

    def _init_flat_weights(self) -> None:
        pass

    def _update_flat_weights(self) -> None:
        pass

    def _replicate_for_data_parallel(self):
        return nn.Module._replicate_for_data_parallel(self)

    def __prepare_scriptable__(self):
        checks.no_torchscript()

    def __getstate__(self) -> dict:
        # torch.nn makes these weak references anew in __setstate__; they cannot be pickled.
        return {k: v for k, v in self.__dict__.items() if k != "_flat_weight_refs"}

    def flatten_parameters(self) -> None:
        """Nothing to do: fastrnn's kernels need no flat buffer. Kept for torch.nn's callers."""

    def _layers(self) -> list[list[Tensor]]:
        """The weights of the L layers, both directions together, read afresh."""
        parameters = self._parameters
        try:
            layers = [[parameters[name] for name in names] for names in self._all_weights]
        except KeyError:  # a parametrization, pruning or weight_norm made some plain attributes
            layers = [[getattr(self, name) for name in names] for names in self._all_weights]
        if self.bidirectional:
            return [ahead + back for ahead, back in zip(layers[::2], layers[1::2])]
        return layers

    def _zeros(self, input: Tensor, b: int) -> tuple[Tensor, ...]:
        """Initial states for input: S tensors [L*D, B, H]."""
        rows = len(self._all_weights)
        h0 = input.new_zeros(rows, b, self.proj_size or self.hidden_size)
        other = input.new_zeros(rows, b, self.hidden_size) if self.proj_size else h0
        return (h0, *[other] * (self.states - 1))

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | tuple[Tensor, ...] | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        resets: Tensor | None = None,
        extra: Sequence[Tensor] | Tensor | None = None,
    ) -> tuple:
        """Runs the layers over a sequence, in the weights' dtype (or autocast's), on their device.

        Args:
            input: `[T, B, I]` (`[B, T, I]` with batch_first), `[T, I]` unbatched, or PackedSequence
            hx: `[L*D, B, H]` (`[L*D, H]` unbatched); of a cell with S > 1 states a tuple of S,
                FastLSTM: (h_0, c_0); None: zeros
            lengths: `[B]` integers in any order, on any device, zeros too: each row's valid steps.
                Outputs past them are zeros, h_n is the state at the length
            resets: `[T, B]` bool (`[B, T]` with batch_first, `[T]` unbatched): the row enters that
                step with zero state, and no gradient passes
            extra: of a cell with E extra slots E Tensors of the input's layout with H in place of
                I (of a PackedSequence also the data alone), the same for all layers and directions

        Returns output `[T, B, D*H]` in the layout of input, and h_n in the form of hx (FastLSTM:
        (h_n, c_n)), as torch.nn's layers do. With proj_size, output and h have P in place of H.

        Raises ValueError or RuntimeError as torch.nn, TypeError for what is no Tensor: the name,
        what was expected and what was given. RuntimeError where `backend` cannot serve.
        """
        if torch_private.tracing_state() is not None:
            checks.no_torchscript()
        layers = self._layers()
        if isinstance(input, PackedSequence):
            return self._forward_packed(layers, input, hx, lengths, resets, extra)
        if not isinstance(input, Tensor):
            options = {"lengths": lengths, "resets": resets, "extra": extra}
            given = {name: value for name, value in options.items() if value is not None}
            return checks.no_tensor(self, input, (input, hx), given)
        checks.input(self, input, layers[0][0])
        unbatched = input.dim() == 2
        if unbatched:
            input = input.unsqueeze(1)
        elif self.batch_first:
            input = input.transpose(0, 1)
        t, b, _ = input.shape
        if t == 0:
            raise RuntimeError("input must have at least one time step, got a sequence of length 0")
        state = None if hx is None else checks.state(self, hx, input, b, unbatched)
        if resets is not None:
            resets = checks.resets(self, resets, t, b, unbatched, input.device)
        if lengths is not None:
            lengths = ragged.read_lengths(lengths, t, b)
        slots = None
        if extra is not None or self.extra_slots:
            slots = extras.read(self, extra, input, unbatched)
        output, final = self._run(layers, input, state, None, resets, lengths, slots)
        if unbatched:
            output, final = output.squeeze(1), [s.squeeze(1) for s in final]
        elif self.batch_first:
            output = output.transpose(0, 1)
        return output, final[0] if self.states == 1 else tuple(final)

    def _forward_packed(self, layers, packed: PackedSequence, hx, lengths, resets, extra) -> tuple:
        """A PackedSequence in and out, hx and h_n in the caller's order of rows."""
        if lengths is not None:
            raise ValueError("lengths must be None with a PackedSequence, which has its own")
        input, batch_sizes, order, inverse = packed
        checks.packed_input(self, input, layers[0][0])
        b = int(batch_sizes[0])
        if hx is None:
            state = self._zeros(input, b)
        else:
            ragged.tell_graph_rows(hx, b)
            state = checks.state(self, hx, input, b, False)
            if order is not None:
                state = [s.index_select(1, order) for s in state]
        if resets is not None:
            resets = checks.resets(self, resets, len(batch_sizes), b, False, input.device)
            resets = ragged.pack_resets(resets, batch_sizes, order)
        slots = extras.read(self, extra, input, False)
        output, final = self._run(layers, input, state, batch_sizes, resets, None, slots, order)
        if inverse is not None:
            final = [s.index_select(1, inverse) for s in final]
        output = PackedSequence(output, batch_sizes, order, inverse)
        return output, final[0] if self.states == 1 else tuple(final)

    def _run(self, layers, input, state, batch_sizes, resets, lengths, slots, order=None):
        cell = self.cell
        if slots is not None or self.zoneout or self.recurrent_dropout:
            cell, layers, state = self._with_slots(layers, input, state, batch_sizes, slots, order)
        output, final = functional.recurrent(
            cell, input, state, layers, batch_sizes, resets, self.bidirectional,
            self.proj_size > 0, self.dropout, self.training, self.backend,
            self.recompute_gates, lengths,
        )  # fmt: skip
        return output, final if cell is self.cell else final[: self.states]

    def _with_slots(self, layers, input, state, batch_sizes, slots, order) -> tuple:
        """The cell that is scanned, and its weights and states: with the caller's extra slots, and
        with masks."""
        cell, own = masks.cell_of(self), () if slots is None else (slots,)
        if cell != self.cell:
            drawn, state = masks.of_call(self, input, state, batch_sizes, order)
            if own:
                drawn = masks.as_tensors(self, drawn, input, batch_sizes)
            slots = [(*own, each) for each in drawn]
        elif own:
            slots = [own] * len(self._all_weights)
        else:  # recurrent dropout, which does not act
            return cell, layers, state
        return cell, extras.append(layers, 2 if self.bidirectional else 1, slots), state

    @property
    def scanned(self) -> str:
        """The name of the cell that a call scans: of one derived for masks, where it has some."""
        return masks.cell_of(self)

    def extra_repr(self) -> str:
        extra = super().extra_repr()
        if self.recompute_gates:
            extra += ", recompute_gates=True"
        if self.zoneout:
            same = len({*self.zoneout}) == 1
            extra += f", zoneout={self.zoneout[0] if same else self.zoneout}"
        if self.recurrent_dropout:
            extra += f", recurrent_dropout={self.recurrent_dropout}"
            if self.recurrent_mask != "sequence":
                extra += f", recurrent_mask={self.recurrent_mask!r}"
        return extra if self.backend == "auto" else f"{extra}, backend={self.backend!r}"
