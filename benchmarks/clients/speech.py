"""Speech and music: torchaudio, Demucs, Denoiser, DeepFilterNet, Open-Unmix, Asteroid, SpeechBrain,
Resemblyzer, Silero VAD.
"""

from __future__ import annotations

from importlib import resources

import torch

from .model import Client, Model, plain


def deep_speech() -> Model:
    from torchaudio.models import DeepSpeech

    return plain(
        DeepSpeech(n_feature=26, n_hidden=512, n_class=40).eval(), torch.randn(8, 1, 200, 26)
    )


def wave_rnn() -> Model:
    from torchaudio.models import WaveRNN

    net = WaveRNN(upsample_scales=[5, 5, 8], n_classes=256, hop_length=200, n_rnn=256, n_fc=256)
    return plain(net, torch.randn(2, 1, 200 * 6), torch.randn(2, 1, 128, 10))


def tacotron2() -> Model:
    from torchaudio.models import Tacotron2

    net = Tacotron2()
    tokens, lengths = torch.randint(0, 148, (2, 40)), torch.tensor([40, 30])
    mel, mel_lengths = torch.randn(2, 80, 40), torch.tensor([40, 32])
    return plain(net, tokens, lengths, mel, mel_lengths, of=lambda made: made[0])


def rnnt(b: int, tokens: int) -> Model:
    """The predictor of the RNN-T that torchaudio has weights of; no others of its parts recur."""
    from torchaudio.models.rnnt import _CustomLSTM, emformer_rnnt_base

    net = emformer_rnnt_base(num_symbols=4097).predictor
    given = torch.randint(0, 4096, (b, tokens)), torch.full((b,), tokens)
    state = [[torch.randn(b, 512) for _ in range(2)] for _ in net.lstm_layers]
    model = plain(net, *given, state, of=lambda made: made[0])
    return model._replace(recurrent=(_CustomLSTM,))


def deep_filter_net() -> Model:
    import sys
    from types import ModuleType

    # It asks torchaudio for a class that is gone, to annotate a result.
    gone = ModuleType("torchaudio.backend.common")
    gone.AudioMetaData = object
    sys.modules.setdefault(gone.__name__, gone)

    from df.config import config
    from df.deepfilternet3 import DfNet

    if config.parser is None:
        config.use_defaults()
    net = DfNet(torch.rand(481, 32), torch.rand(32, 481))
    shapes = (1, 1, 100, 481, 2), (1, 1, 100, 32), (1, 1, 100, 96, 2)
    return plain(net, *map(torch.randn, shapes), of=lambda made: made[0])


def resemblyzer() -> Model:
    from resemblyzer import VoiceEncoder

    net = VoiceEncoder("cpu", verbose=False)
    return plain(net, torch.rand(16, 160, 40), of=lambda made: made[:, :64])  # all have norm 1


def demucs() -> Model:
    from demucs.demucs import Demucs

    return plain(Demucs(["drums", "vocals"], channels=16, depth=5), torch.randn(1, 2, 44100))


def hdemucs() -> Model:
    from demucs.hdemucs import HDemucs

    return plain(HDemucs(["drums", "vocals"], channels=16), torch.randn(1, 2, 44100))


def denoiser() -> Model:
    from denoiser.demucs import Demucs

    return plain(Demucs(hidden=48), torch.randn(1, 1, 16000))


def open_unmix() -> Model:
    from openunmix.model import OpenUnmix

    net = OpenUnmix(nb_bins=2049, nb_channels=2, hidden_size=512, max_bin=1487)
    return plain(net, torch.rand(1, 2, 2049, 100))


def dprnn_tasnet() -> Model:
    from asteroid.models import DPRNNTasNet

    return plain(DPRNNTasNet(2, n_repeats=2), torch.randn(1, 8000))


def lstm_tasnet() -> Model:
    from asteroid.models import LSTMTasNet

    return plain(LSTMTasNet(2, hid_size=256, n_layers=4), torch.randn(1, 8000))


def speechbrain() -> Model:
    from speechbrain.lobes.models.CRDNN import CRDNN
    from speechbrain.nnet.RNN import LSTM

    net = CRDNN(
        input_size=40, rnn_class=LSTM, rnn_layers=4, rnn_neurons=256, rnn_bidirectional=True,
        cnn_blocks=1, cnn_channels=(32,), dnn_neurons=256,
    )  # fmt: skip
    return plain(net, torch.randn(4, 200, 40))


def silero_vad() -> Model:
    with resources.as_file(resources.files("silero_vad") / "data" / "silero_vad.jit") as path:
        net = torch.jit.load(path)
    sound = torch.randn(1, 512)

    def run():
        net.reset_states()
        return net(sound, 16000)

    return Model(net, run)


CLIENTS = [
    Client(package, title, shapes, make)
    for package, title, shapes, make in (
        ("torchaudio", "DeepSpeech", "B 8, T 200, RNN of relu, H 512, two directions", deep_speech),
        ("torchaudio", "WaveRNN", "B 2, T 1200, GRU, H 512, 2 layers", wave_rnn),
        ("torchaudio", "Tacotron2, teacher forced", "B 2, 40 tokens, 40 frames", tacotron2),
        ("torchaudio", "RNN-T, predictor", "B 8, 40 tokens, _CustomLSTM, H 512, 3 layers",
         lambda: rnnt(8, 40)),
        ("torchaudio", "RNN-T, predictor", "B 10, 1 token, as a beam search asks for",
         lambda: rnnt(10, 1)),
        ("demucs", "Demucs", "1 s of 44.1 kHz, H 256, 2 layers, two directions", demucs),
        ("demucs", "HDemucs", "1 s of 44.1 kHz", hdemucs),
        ("denoiser", "Demucs", "1 s of 16 kHz, H 768, 2 layers", denoiser),
        ("deepfilternet", "DeepFilterNet3", "1 s of 48 kHz, GRU, H 256",
         deep_filter_net),
        ("openunmix", "OpenUnmix", "B 1, T 100, H 256, 3 layers, two directions", open_unmix),
        ("asteroid", "DPRNN-TasNet", "1 s of 8 kHz, H 128, 2 repeats", dprnn_tasnet),
        ("asteroid", "LSTM-TasNet", "1 s of 8 kHz, H 256, 4 layers", lstm_tasnet),
        ("speechbrain", "CRDNN", "B 4, T 200, H 256, 4 layers, two directions", speechbrain),
        ("Resemblyzer", "VoiceEncoder", "B 16, 160 frames, LSTM, H 256, 3 layers", resemblyzer),
        ("silero-vad", "the shipped file", "B 1, 512 samples", silero_vad),
    )
]  # fmt: skip
