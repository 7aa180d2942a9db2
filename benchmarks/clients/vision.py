"""Text in pictures: kraken."""

from __future__ import annotations

import torch

from .model import Client, Model, plain


def kraken() -> Model:
    from kraken.lib.vgsl import TorchVGSLModel

    spec = (
        "[1,120,0,1 Cr3,13,32 Mp2,2 Cr3,13,32 Mp2,2 Cr3,9,64 Mp2,2 Cr3,9,64 S1(1x0)1,3 Lbx200 "
        "Lbx200 Lbx200 O1c100]"
    )
    net = TorchVGSLModel(vgsl=spec).nn
    return plain(net, torch.randn(1, 1, 120, 800), of=lambda made: made[0])


CLIENTS = [
    Client("kraken", "recognition of a line", "120 x 800, H 200, 3 layers, two directions", kraken),
]
