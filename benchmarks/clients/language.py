"""Language: SuPar, Stanza, Flair, OpenNMT."""

from __future__ import annotations

import torch

from .model import Client, Model, plain


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


def flair() -> Model:
    from flair.data import Dictionary
    from flair.models import LanguageModel

    characters = Dictionary()
    for i in range(274):
        characters.add_item(str(i))
    net = LanguageModel(characters, is_forward_lm=True, hidden_size=1024, nlayers=1)
    text = torch.randint(0, len(characters), (250, 8))
    return plain(net, text, net.init_hidden(8), of=lambda made: made[0])


def open_nmt(input_feed: bool) -> Model:
    from onmt.decoders.decoder import InputFeedRNNDecoder, StdRNNDecoder
    from onmt.encoders.rnn_encoder import RNNEncoder
    from onmt.models import NMTModel
    from onmt.modules import Embeddings

    def words():
        return Embeddings(256, 1000, word_padding_idx=1)

    decoder = InputFeedRNNDecoder if input_feed else StdRNNDecoder
    net = NMTModel(
        RNNEncoder("LSTM", True, 2, 512, embeddings=words()),
        decoder("LSTM", True, 2, 512, attn_type="general", embeddings=words()),
    )
    lengths = torch.linspace(30, 10, 16).long()
    source, target = (torch.randint(2, 1000, (16, 30, 1)) for _ in range(2))
    return plain(net, source, target, lengths, of=lambda made: made[0])


CLIENTS = [
    Client("supar", "VariationalLSTM", "B 16, 8-30 words, H 200, 3 layers, two directions", supar),
    Client("stanza", "HighwayLSTM", "B 16, 8-30 words, H 200, 2 layers, two directions", stanza),
    Client("flair", "LanguageModel", "B 8, 250 characters, H 1024", flair),
] + [
    Client("OpenNMT-py", "LSTM to LSTM" + title, "B 16, 10-30 words, H 512, 2 layers",
           lambda feed=feed: open_nmt(feed))
    for title, feed in (("", False), (", input feed", True))
]  # fmt: skip
