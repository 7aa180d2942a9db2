"""Graphs: PyTorch Geometric."""

from __future__ import annotations

import torch

from .model import Client, Model, plain


def _graph(nodes: int, edges: int) -> torch.Tensor:
    return torch.randint(0, nodes, (2, edges))


def gated_graph() -> Model:
    from torch_geometric.nn import GatedGraphConv

    return plain(GatedGraphConv(64, num_layers=4), torch.randn(2000, 64), _graph(2000, 10000))


def set2set() -> Model:
    from torch_geometric.nn import Set2Set

    sets = torch.arange(2000) // 20
    return plain(Set2Set(64, processing_steps=6), torch.randn(2000, 64), sets)


def jumping_knowledge() -> Model:
    from torch_geometric.nn import GraphSAGE

    net = GraphSAGE(32, 64, num_layers=4, jk="lstm")
    return plain(net, torch.randn(2000, 32), _graph(2000, 10000))


def attentive() -> Model:
    from torch_geometric.nn import AttentiveFP

    net = AttentiveFP(39, 128, 1, edge_dim=10, num_layers=2, num_timesteps=2)
    atoms = torch.arange(2000) // 20
    return plain(net, torch.randn(2000, 39), _graph(2000, 4000), torch.randn(4000, 10), atoms)


CLIENTS = [
    Client("torch-geometric", "GatedGraphConv", "2000 nodes, H 64, GRUCell, 4 steps", gated_graph),
    Client("torch-geometric", "Set2Set", "100 sets of 20, LSTM of one step, 6 times", set2set),
    Client("torch-geometric", "GraphSAGE, jumping LSTM", "2000 nodes, H 128, T 4, two directions",
           jumping_knowledge),
    Client("torch-geometric", "AttentiveFP", "100 molecules of 20 atoms, H 128, GRUCell",
           attentive),
]  # fmt: skip
