"""Twins for test_fuzz.py: a layer of fastrnn's and one of torch.nn's, and what is done to them."""

import copy
import io
import pickle

import torch
from fuzz_calls import Call, Counter, Run, agree, calls, dtype_of
from helpers import fast, plain
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from torch import nn

import fastrnn

OPTIMIZERS = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.02, momentum=0.9),
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.02),
}


def through(io_of):
    """A round trip of an object through bytes."""

    def trip(thing):
        file = io.BytesIO()
        io_of.dump(thing, file) if io_of is pickle else io_of.save(thing, file)
        file.seek(0)
        return pickle.load(file) if io_of is pickle else torch.load(file, weights_only=False)

    return trip


COPIES = {"deepcopy": copy.deepcopy, "pickle": through(pickle), "save": through(torch)}


class Twins(RuleBasedStateMachine):
    """layers: fastrnn's, then torch.nn's. Their weights have the same bits at all times."""

    cell = "lstm"

    @initialize(
        sizes=st.tuples(st.sampled_from([1, 2, 3, 5]), st.sampled_from([1, 2, 3, 7, 9, 17])),
        num_layers=st.integers(1, 2),
        options=st.fixed_dictionaries(
            {name: st.booleans() for name in ("bidirectional", "batch_first", "bias")}
        ),
        dropout=st.sampled_from([0.0, 0.4]),
        dtype=st.sampled_from([torch.float64, torch.float32]),
        optimizer=st.sampled_from(sorted(OPTIMIZERS)),
        accelerated=st.booleans(),
        seed=st.integers(0, 99),
    )
    def birth(self, sizes, num_layers, options, dropout, dtype, optimizer, accelerated, seed):
        torch.manual_seed(seed)
        options = dict(options, num_layers=num_layers, dtype=dtype)
        options["dropout"] = dropout if num_layers > 1 else 0.0
        theirs = plain(self.cell, *sizes, **options)
        if accelerated:
            ours = fastrnn.accelerate(copy.deepcopy(theirs))
        else:
            ours = fast(self.cell, *sizes, **options)
            ours.load_state_dict(theirs.state_dict())
        self.layers, self.optimizer, self.later = [ours, theirs], optimizer, None
        for layer in self.layers:
            layer.calls = Counter()
            layer.register_forward_hook(layer.calls)
        self.new_optimizers()

    def teardown(self):
        """A life does not depend on the ones before it."""
        torch.set_num_threads(1)

    def new_optimizers(self):
        make = OPTIMIZERS[self.optimizer]
        self.optimizers = [make(layer.parameters()) for layer in self.layers]

    def draws(self) -> bool:
        """Whether calls draw random numbers."""
        return self.layers[0].dropout > 0 and self.layers[0].training

    def runs(self, call: Call) -> tuple[Run, Run]:
        ours, theirs = (Run(layer, call).forward() for layer in self.layers)
        self.agree(ours.tensors, theirs.tensors, "results")
        needed = [[t.requires_grad for t in run.tensors] for run in (ours, theirs)]
        assert needed[0] == needed[1], "requires_grad of results"
        return ours, theirs

    def agree(self, ours, theirs, what):
        agree(ours, theirs, dtype_of(self.layers[1]), what)

    def same_gradients(self):
        """Ours become those of torch.nn to the bit, so that the weights stay the same."""
        for ours, theirs in self.weights():
            if ours.grad is not None:
                ours.grad.copy_(theirs.grad)

    def weights(self):
        return list(zip(*(layer.parameters() for layer in self.layers)))

    @invariant()
    def weights_and_gradients_agree(self):
        ours, theirs = self.layers
        names = [[n for n, _ in layer.named_parameters()] for layer in self.layers]
        assert names[0] == names[1]
        assert type(ours).__module__ == "fastrnn.modules" and ours.training == theirs.training
        for a, b in self.weights():
            assert torch.equal(a, b) and a.dtype == b.dtype and a.requires_grad == b.requires_grad
        self.agree(
            [a.grad for a, _ in self.weights()], [b.grad for _, b in self.weights()], ".grad"
        )

    @rule(training=st.booleans())
    def change_mode(self, training):
        for layer in self.layers:
            layer.train(training)

    @rule(which=st.integers(0, 15), how=st.sampled_from(["mul", "data", "new_data", "parameter"]))
    def change_a_weight(self, which, how):
        if how in ("data", "new_data"):  # autograd does not notice
            self.later = None
        for layer in self.layers:
            name, w = list(layer.named_parameters())[which % len(list(layer.parameters()))]
            if how == "mul":
                with torch.no_grad():
                    w.mul_(0.9)
            elif how == "data":
                w.data.mul_(-0.9)
            elif how == "new_data":
                w.data = w.data * 0.9
            else:
                setattr(layer, name, nn.Parameter(w.detach() * 0.9, w.requires_grad))
        if how == "parameter":
            self.new_optimizers()

    @rule()
    def optimizer_step(self):
        self.same_gradients()
        for layer, optimizer in zip(self.layers, self.optimizers):
            nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
            optimizer.step()

    @rule(to_none=st.booleans(), of_layer=st.booleans())
    def zero_grad(self, to_none, of_layer):
        for thing in self.layers if of_layer else self.optimizers:
            thing.zero_grad(set_to_none=to_none)

    @rule(source=st.sampled_from([0, 1]), assign=st.booleans())
    def load_state_dict(self, source, assign):
        with torch.no_grad():
            for w in self.layers[source].parameters():
                w.mul_(-0.8)
        state = copy.deepcopy(self.layers[source].state_dict())
        self.layers[1 - source].load_state_dict(state, assign=assign)
        if assign:  # new Parameters on one side, so without .grad
            self.layers[source].zero_grad()
            self.new_optimizers()

    @rule(how=st.sampled_from(sorted(COPIES)))
    def copies_take_over(self, how):
        pairs = [COPIES[how](pair) for pair in zip(self.layers, self.optimizers)]
        self.layers, self.optimizers = map(list, zip(*pairs))

    @rule(dtype=st.sampled_from([torch.float32, torch.float64]))
    def change_dtype(self, dtype):
        if dtype == dtype_of(self.layers[0]):
            return
        self.later = None
        self.same_gradients()
        for layer in self.layers:
            layer.double() if dtype == torch.float64 else layer.float()
        self.new_optimizers()  # Adam refuses moments of another dtype

    @rule(which=st.lists(st.booleans(), min_size=1, max_size=5))
    def freeze(self, which):
        for layer in self.layers:
            for k, w in enumerate(layer.parameters()):
                w.requires_grad_(which[k % len(which)])

    @rule(threads=st.integers(1, 2))
    def change_threads(self, threads):
        torch.set_num_threads(threads)

    @rule(recompute=st.booleans())
    def change_recompute_gates(self, recompute):
        self.layers[0].recompute_gates = recompute

    @rule(call=calls(["dense", "packed_unsorted"]))
    def restore_and_accelerate(self, call):
        ours = self.layers[0]
        assert fastrnn.restore(ours) is ours and type(ours) is type(self.layers[1])
        self.runs(call)
        assert fastrnn.accelerate(ours) is ours
