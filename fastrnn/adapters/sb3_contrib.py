"""Stable-Baselines3-Contrib's RecurrentPPO: a batch with episodes that end inside it is one call.

Its policies run their LSTM a step at a time as soon as one episode starts inside the batch, which
most batches of a training have. fastrnn's layers take the starts as `resets=`.
"""

from __future__ import annotations

import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from torch import Tensor, nn

from fastrnn.convert import register
from fastrnn.modules import FastLSTM

step_by_step = RecurrentActorCriticPolicy._process_sequence


def process_sequence(features: Tensor, lstm_states, episode_starts: Tensor, lstm: nn.Module):
    """What the policy's own does, in one call. Rows are those of all sequences, one by one.

    features `[B*T, I]`, lstm_states a pair `[L, B, H]`, episode_starts `[B*T]` of 0 and 1.
    Returns the outputs `[B*T, H]` and the final states.
    """
    if not issubclass(type(lstm), FastLSTM) or lstm.bidirectional or lstm.batch_first:
        return step_by_step(features, lstm_states, episode_starts, lstm)
    b = lstm_states[0].shape[1]
    input = features.reshape(b, -1, lstm.input_size).swapaxes(0, 1)
    resets = (episode_starts.reshape(b, -1) != 0).swapaxes(0, 1)
    output, final = lstm(input, lstm_states, resets=resets)
    return torch.flatten(output.transpose(0, 1), 0, 1), final


def to_fast(policy: nn.Module) -> str | None:
    if type(policy)._process_sequence is not step_by_step:
        return f"{type(policy).__name__} has a _process_sequence of its own"
    policy.__dict__["_process_sequence"] = process_sequence
    return None


def back(policy: nn.Module) -> None:
    if policy.__dict__.get("_process_sequence") is process_sequence:
        del policy.__dict__["_process_sequence"]


register(RecurrentActorCriticPolicy, to_fast, back)
