"""Recordings of speech and their log-mel frames, in plain torch: for speech_digits.py."""

from __future__ import annotations

import wave

import common
import torch
from torch import Tensor, nn
from torch.nn import functional as F

RATE, WINDOW, HOP = 8000, 200, 80  # Hz, samples, samples
TRANSFORM = 256  # samples of a Fourier transform: a window and zeros
BINS = 40  # of a frame


def read_wave(path) -> Tensor:
    """The samples of a file at RATE, with a mean square of 1."""
    try:
        with wave.open(str(path)) as file:
            channels, width, rate = file.getparams()[:3]
            raw = bytearray(file.readframes(file.getnframes()))
    except (OSError, EOFError, wave.Error) as error:
        common.fail(f"cannot read {path}: {error}")
    if (channels, width) != (1, 2) or len(raw) < 2 * WINDOW:
        common.fail(f"{path}: expected one channel of 16 bit, and {WINDOW} samples or more")
    return level(resample(torch.frombuffer(raw, dtype=torch.int16).float(), rate / RATE))


def level(samples: Tensor) -> Tensor:
    samples = samples - samples.mean()
    return samples / samples.square().mean().sqrt().clamp(min=1e-3)


def resample(samples: Tensor, speed: float) -> Tensor:
    """Faster and higher for a speed above 1."""
    if speed == 1:
        return samples
    size = max(int(len(samples) / speed), WINDOW)
    return F.interpolate(samples[None, None], size=size, mode="linear")[0, 0]


def mel_filters(warp: float = 1.0) -> Tensor:
    """[TRANSFORM // 2 + 1, BINS]: triangles at equal distances in mel; warp moves all of them."""
    top = 2595 * torch.log10(torch.tensor(1 + RATE / 2 / 700))
    edges = 700 * (10 ** (torch.linspace(0.03, 1, BINS + 2) * top / 2595) - 1)
    left, middle, right = (edges[k : k + BINS] * warp for k in range(3))
    hertz = torch.linspace(0, RATE / 2, TRANSFORM // 2 + 1)[:, None]
    return torch.minimum(
        (hertz - left) / (middle - left), (right - hertz) / (right - middle)
    ).relu()


WARPS = 0.82, 0.88, 0.94, 1.0, 1.06, 1.12, 1.18
FILTERS = {warp: mel_filters(warp) for warp in WARPS}


def frames(samples: Tensor, warp: float = 1.0) -> Tensor:
    """Log-mel frames [F, BINS] of samples [N], about 1 in size."""
    spectrum = torch.stft(
        samples, TRANSFORM, HOP, WINDOW, torch.hann_window(WINDOW), return_complex=True
    )
    return ((spectrum.abs().square().T @ FILTERS[warp] + 1e-3).log() - 1) / 3


def join(parts: list[Tensor], draw: torch.Generator | None, noise: float) -> Tensor:
    """Recordings one after the other, with pauses of up to 0.2 s, over a noise."""
    pauses = (torch.rand(len(parts) + 1, generator=draw) * 0.2 * RATE).int().tolist()
    pieces = [torch.zeros(pauses[0] + WINDOW)]
    for part, pause in zip(parts, pauses[1:], strict=True):
        pieces += [part, torch.zeros(pause)]
    samples = torch.cat(pieces)
    return samples + noise * torch.randn(len(samples), generator=draw)


def alone(samples: Tensor) -> Tensor:
    """Frames of one recording, with a tenth of a second of silence before and after it."""
    return frames(F.pad(samples, (RATE // 10, RATE // 10)))


def varied(parts: list[Tensor], strength: float) -> Tensor:
    """Frames of joined recordings, as another speaker in another room might have spoken them.

    strength: from 0, as they are, to 1: up to 25% faster and 25% slower, 18% higher and lower,
    and in a noise a tenth as loud as the voice.
    """
    tempo, warp, loud = torch.rand(3).tolist()
    tempo = strength * (tempo - 0.5) * 0.4
    each = strength * (torch.rand(len(parts)) - 0.5) * 0.1
    parts = [resample(p, 1 + tempo + own) for p, own in zip(parts, each.tolist(), strict=True)]
    samples = join(parts, None, 10 ** (-3 + 2 * strength * loud))
    found = frames(samples, WARPS[int((0.5 + strength * (warp - 0.5)) * len(WARPS))])
    room = 0.5 * strength * torch.randn(1, 1, 5)  # what it does to low and high tones
    found = found + F.interpolate(room, BINS, mode="linear", align_corners=True)[0]
    for axis, most in ((1, 8), (1, 8), (0, 10)):  # what is masked, nobody has heard
        size = found.size(axis)
        start, width = torch.rand(2).tolist()
        width = int(strength * width * min(most, size // 2))
        found.narrow(axis, int(start * (size - width)), width).zero_()
    return found


def batch(pieces: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Frames of B recordings -> padded [B, F, BINS], the frames of each [B]."""
    padded = nn.utils.rnn.pad_sequence(pieces, batch_first=True)
    return padded, torch.tensor([len(piece) for piece in pieces])
