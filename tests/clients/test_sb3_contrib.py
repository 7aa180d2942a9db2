"""Stable-Baselines3-Contrib's RecurrentPPO: a batch of episodes is one call, with its results."""

import copy
import io

import pytest
import torch
from helpers import worst
from torch import nn

import fastrnn

pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed: pip install -e .[clients]")
import gymnasium  # noqa: E402
from sb3_contrib import RecurrentPPO  # noqa: E402
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy  # noqa: E402
from sb3_contrib.common.recurrent.type_aliases import RNNStates  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = [
    {},
    {"n_lstm_layers": 2, "shared_lstm": True, "enable_critic_lstm": False},
]
each_kind = pytest.mark.parametrize("options", KINDS, ids=["two", "shared"])


def policy(options=KINDS[0], cls=RecurrentActorCriticPolicy):
    spaces = gymnasium.spaces.Box(-1, 1, (4,)), gymnasium.spaces.Discrete(3)
    return cls(*spaces, lambda _: 1e-3, lstm_hidden_size=8, **options)


def batch(policy, b, t, chance=0.2):
    """What a rollout buffer hands to evaluate_actions: rows of all sequences, one by one."""
    shape = policy.lstm_actor.num_layers, b, 8
    state = torch.randn(shape), torch.randn(shape)
    starts = (torch.rand(b * t) < chance).float()
    return torch.randn(b * t, 4), torch.randint(3, (b * t,)), RNNStates(state, state), starts


def results(policy, batch):
    values, log_prob, entropy = policy.evaluate_actions(*batch)
    return [values, log_prob, entropy]


@each_kind
@pytest.mark.parametrize("chance", [0.0, 0.2, 1.0])
def test_any_episodes(options, chance):
    theirs = policy(options)
    ours = fastrnn.accelerate(copy.deepcopy(theirs))
    assert type(ours) is type(theirs)
    assert isinstance(ours.lstm_actor, fastrnn.FastLSTM)
    for b, t in ((1, 1), (3, 1), (2, 7)):
        given = batch(theirs, b, t, chance)
        a, b = results(ours, given), results(theirs, given)
        assert worst(a, b) < 1e-6
        grads = [
            torch.autograd.grad(
                sum(r.sum() for r in all), list(each.parameters()), allow_unused=True
            )
            for each, all in ((ours, a), (theirs, b))
        ]
        pairs = [(g, h) for g, h in zip(*grads) if g is not None or h is not None]
        assert pairs and worst(*zip(*pairs)) < 1e-5
        states = [each.forward(given[0], given[2], given[3], True)[3] for each in (ours, theirs)]
        assert worst(*states) < 1e-6


def test_one_call_a_layer(monkeypatch):
    ours, calls = fastrnn.accelerate(policy()), []
    for layer in (ours.lstm_actor, ours.lstm_critic):
        layer.register_forward_hook(lambda *_: calls.append(1))
    results(ours, batch(ours, 2, 50))
    assert len(calls) == 2


def test_restore_and_copies():
    theirs = policy()
    before, given = vars(theirs).keys(), batch(theirs, 2, 7)
    ours = fastrnn.accelerate(copy.deepcopy(theirs))
    other = copy.deepcopy(fastrnn.accelerate(ours))
    assert worst(results(other, given), results(ours, given)) == 0
    fastrnn.restore(ours)
    assert type(ours.lstm_actor) is nn.LSTM and vars(ours).keys() == before
    assert worst(results(ours, given), results(theirs, given)) == 0


def test_a_policy_with_a_loop_of_its_own_is_left_and_named():
    class Own(RecurrentActorCriticPolicy):
        @staticmethod
        def _process_sequence(*arguments):
            return RecurrentActorCriticPolicy._process_sequence(*arguments)

    ours, left = fastrnn.accelerate(policy(cls=Own), report=True)
    assert left == {"": "Own has a _process_sequence of its own"}
    assert "_process_sequence" not in vars(ours)
    assert type(ours.lstm_actor) is fastrnn.FastLSTM


def test_learning_saving_and_loading():
    """What is loaded is built anew, and is torch.nn's: it has to be accelerated again."""
    arguments = {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "seed": 0, "device": "cpu"}
    arguments["policy_kwargs"] = {"lstm_hidden_size": 8}
    models = []
    for change in (fastrnn.accelerate, fastrnn.restore):
        ours = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", **arguments)
        change(ours.policy)
        models.append(ours.learn(64))
    ours, theirs = models
    assert type(ours.policy.lstm_actor) is fastrnn.FastLSTM
    assert worst(list(ours.policy.parameters()), list(theirs.policy.parameters())) < 1e-4
    file = io.BytesIO()
    ours.save(file)
    file.seek(0)
    again = RecurrentPPO.load(file, device="cpu")
    assert type(again.policy.lstm_actor) is nn.LSTM
    assert worst(list(again.policy.parameters()), list(ours.policy.parameters())) == 0
