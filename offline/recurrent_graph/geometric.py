"""PyTorch Geometric's convolutions, or the line that says what to install: the only file that imports it."""

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

from models.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Convolutions:
    """What is taken of PyTorch Geometric; it has no types."""

    gcn: Any
    gat: Any


@cache
def convolutions() -> Convolutions:
    """Return the convolutions. Raises SettingsError where PyTorch Geometric is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # it scripts some classes as it is imported
            from torch_geometric.nn import GATConv, GCNConv
    except ImportError as error:
        raise SettingsError(
            "--model gru-gnn and lstm-gnn need PyTorch Geometric, which is not installed: "
            "pip install 'twintide[graph]'"
        ) from error
    return Convolutions(GCNConv, GATConv)
