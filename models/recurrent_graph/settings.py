"""The form of a recurrent encoder beside a graph, as far as what serves it must know it."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from models.errors import SettingsError

Count = Annotated[int, Meta(ge=1)]


@dataclass(frozen=True, slots=True)
class RecurrentGraphSettings:
    """The sizes; those of training are in offline/recurrent_graph/settings.py."""

    #: The cell that reads the window.
    recurrent: Literal["gru", "lstm"] = "gru"
    #: How nodes take what their neighbours send: by the degrees (GCN), or as they look at them (GAT).
    graph: Literal["gcn", "gat"] = "gcn"
    #: Length D of the vectors of items, of the state and of the graph's nodes.
    dimension: Count = 64
    #: Heads of GAT.
    heads: Count = 2
    #: Newest events of the window that are read.
    read_events: Count = 50

    def __post_init__(self) -> None:
        if self.graph == "gat" and self.dimension % self.heads:
            raise SettingsError(
                f"dimension is {self.dimension}; it must be a multiple of the heads, {self.heads}"
            )

    @property
    def gates(self) -> int:
        """How many times D a cell's products are long."""
        return 3 if self.recurrent == "gru" else 4
