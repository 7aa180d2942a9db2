"""Language: SuPar, Stanza."""

from __future__ import annotations

import torch

from .model import Client, Model


def supar() -> Model:
    from supar.modules import VariationalLSTM
    from torch.nn.utils.rnn import pack_padded_sequence

    net = VariationalLSTM(100, 200, num_layers=3, bidirectional=True, dropout=0.0)
    words, lengths = torch.randn(16, 30, 100), torch.linspace(30, 8, 16).long()

    def run():
        packed = pack_padded_sequence(words, lengths, batch_first=True)
        return net(packed)[0].data

    return Model(net, run, lambda: run().square().mean())


def stanza() -> Model:
    from stanza.models.common.hlstm import HighwayLSTM
    from torch.nn.utils.rnn import pack_padded_sequence

    net = HighwayLSTM(100, 200, num_layers=2, bidirectional=True, batch_first=True)
    words, lengths = torch.randn(16, 30, 100), torch.linspace(30, 8, 16).long()

    def run():
        packed = pack_padded_sequence(words, lengths, batch_first=True)
        return net(packed, lengths)[0].data

    return Model(net, run, lambda: run().square().mean())


CLIENTS = [
    Client("supar", "VariationalLSTM", "B 16, 8-30 words, H 200, 3 layers, two directions", supar),
    Client("stanza", "HighwayLSTM", "B 16, 8-30 words, H 200, 2 layers, two directions", stanza),
]
