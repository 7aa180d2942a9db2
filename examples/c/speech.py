"""Writes a small GRU as a stream file, and prints what it says of a sound, as speech.c does.

python examples/c/speech.py model.frnn sound.wav
"""

import sys
import wave

import torch
from torch import nn

import fastrnn

FRAME = 80  # samples: 10 ms at 8 kHz


def read_frames(path):
    """The sound as frames [T, 1, FRAME] between -1 and 1; what is left at the end is dropped."""
    with wave.open(path) as sound:
        if (sound.getnchannels(), sound.getsampwidth()) != (1, 2):
            raise ValueError(f"{path} must be mono, 16 bits")
        samples = torch.frombuffer(bytearray(sound.readframes(-1)), dtype=torch.int16)
    return (samples[: len(samples) // FRAME * FRAME] / 32768).view(-1, 1, FRAME)


def main(model, sound):
    """Untrained: what matters here is that both programs say the same."""
    torch.manual_seed(0)
    stream = fastrnn.Stream([fastrnn.FastGRU(FRAME, 32, num_layers=2), nn.Linear(32, 10)])
    stream.save(model)
    scores = [stream(frame) for frame in read_frames(sound)][-1]
    print("\n".join(f"{score:.9g}" for score in scores[0].tolist()))


if __name__ == "__main__":
    main(*sys.argv[1:])
