"""Reinforcement learning: sb3-contrib, TorchRL, Tianshou."""

from __future__ import annotations

import torch

from .model import Client, Model


def recurrent_ppo(hidden: int) -> Model:
    import numpy as np
    from sb3_contrib import RecurrentPPO

    algorithm = RecurrentPPO(
        "MlpLstmPolicy", "CartPole-v1", n_steps=128, batch_size=128, n_epochs=10, seed=0,
        device="cpu", policy_kwargs={"lstm_hidden_size": hidden},
    )  # fmt: skip
    observation = np.random.default_rng(0).standard_normal((1, 4)).astype("float32")

    def predict():
        action, state = algorithm.policy.predict(observation, deterministic=True)
        return [torch.as_tensor(each) for each in (action, *state)]

    def learn():
        algorithm.learn(128)

    return Model(algorithm.policy, predict, learn)


def torchrl(kind: str, b: int, t: int, alone: bool = False) -> Model:
    """alone: fastrnn gets the layer inside, not the module that its adapter knows."""
    import torchrl.modules
    from tensordict import TensorDict

    states = {"LSTM": ["h", "c"], "GRU": ["h"]}[kind]
    module = getattr(torchrl.modules, f"{kind}Module")(
        input_size=32, hidden_size=128, in_keys=["x", *states],
        out_keys=["y", *(("next", key) for key in states)],
    )  # fmt: skip
    batch = TensorDict({"x": torch.randn(b, t, 32)}, (b, t))
    batch["is_init"] = torch.rand(b, t, 1) < 0.04
    for key in states:
        batch[key] = torch.zeros(b, t, 1, 128)

    def run():
        with torchrl.modules.set_recurrent_mode("recurrent"):
            return module(batch.clone())["y"]

    net = getattr(module, kind.lower()) if alone else module
    return Model(net, run, lambda: run().square().sum())


def tianshou() -> Model:
    from tianshou.utils.net.common import Recurrent

    net = Recurrent(layer_num=2, state_shape=16, action_shape=6, hidden_layer_size=128)
    observations = torch.randn(64, 32, 16)

    def run():
        return net(observations)[0]

    return Model(net, run, lambda: run().square().mean())


CLIENTS = [
    Client("sb3-contrib", f"RecurrentPPO, H {h}", "predict: 1 step; learn: 128 steps, 10 epochs",
           lambda h=h: recurrent_ppo(h))
    for h in (64, 256)
] + [
    Client("torchrl", f"{kind}Module{', its layer alone' if alone else ''}",
           f"B {b}, T {t}, I 32, H 128; one step in 25 begins a trajectory",
           lambda arguments=(kind, b, t, alone): torchrl(*arguments))
    for kind in ("LSTM", "GRU") for b, t in ((16, 100), (64, 32)) for alone in (False, True)
] + [Client("tianshou", "Recurrent", "B 64, T 32, H 128, 2 layers", tianshou)]  # fmt: skip
