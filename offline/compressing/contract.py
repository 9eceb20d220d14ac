"""What a model must offer to be made smaller; one file for each kind stands beside this one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from models.arrays import Doubles
from models.artifact.artifact import COMPRESSED
from models.errors import SettingsError


@dataclass(frozen=True, slots=True)
class CompressSettings:
    """How much smaller, and what it may cost; the command checks no more than this."""

    #: Whether tables and item vectors become int8, with a scale for each row.
    int8: bool = False
    #: Share of each matrix's weights, the smallest, that become zero.
    prune: float = 0.0
    #: By how much NDCG@10 may fall.
    max_loss: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.prune < 1:
            raise SettingsError(f"--prune is {self.prune}; it must be at least 0 and under 1")
        if not 0 <= self.max_loss <= 1:
            raise SettingsError(f"--max-loss is {self.max_loss}; it must be from 0 to 1")
        if not self.int8 and not self.prune:
            raise SettingsError("nothing is to be compressed: give --int8, --prune 0.5, or both")


@dataclass(frozen=True, slots=True)
class Ranked:
    """How good a model is on rows held out: NDCG@10 of each (M,); figures by name, the mean among them."""

    gains: Doubles
    figures: Mapping[str, float]


class Compressible(Protocol):
    """A model, and rows that are held out from it.

    directory: where its files are; training, metrics: what its artifact says.
    """

    @property
    def version(self) -> str: ...
    @property
    def items(self) -> int: ...
    @property
    def directory(self) -> Path: ...
    @property
    def training(self) -> Mapping[str, Any]: ...
    @property
    def metrics(self) -> Mapping[str, Any]: ...

    def smaller(
        self,
        folder: Path,
        settings: CompressSettings,
        metrics: Mapping[str, Any],
        training: Mapping[str, Any],
    ) -> Self:
        """Write it, made smaller, into a folder, and return it as it is loaded from there."""

    def ranked(self) -> Ranked:
        """Return how good it is on the rows held out."""

    def read_bytes(self) -> int:
        """Return the bytes of the weights that are read while it answers."""

    def answer(self) -> int:
        """Answer for some users, as it is served; return for how many."""


def check_whole(model: Compressible) -> None:
    """Raise SettingsError where a model is compressed already."""
    if COMPRESSED in model.training:
        before = model.training[COMPRESSED]["from"]
        raise SettingsError(f"model {model.version} is compressed already, from {before}: name that one")
