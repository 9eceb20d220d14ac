"""The same towers as a naive PyTorch loop would run them: eager, padded, at every place."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from models.artifact.artifact import Artifact
from models.encoder import Vectors
from models.towers.dual_towers import DualTowers
from models.towers.features import Tokens, TowerInputs, features
from models.towers.layers import at_places
from models.windows.histories import histories_of_windows


@dataclass(frozen=True, slots=True)
class EagerTowers:
    """The same towers, padded to the longest of the batch, at every place."""

    artifact: Artifact
    towers: DualTowers

    @torch.inference_mode()
    def __call__(self, values: Sequence[bytes]) -> Vectors:
        towers, device = self.towers, self.towers.everyone.device
        histories = histories_of_windows(values, self.artifact.vocabulary)
        batch = features(histories, self.artifact.settings.features)
        batch = TowerInputs(batch.long.to(device), batch.short.to(device))
        long = towers.long_vectors(towers.embed(batch.long), None)  # (B, T, D)
        beginning = torch.zeros_like(batch.short.item)
        short = towers.short_vectors(towers.embed(batch.short), None, beginning)  # (B, K, D)
        mixed = towers.mix(
            _newest(batch.long, long, towers.unseen_long),
            _newest(batch.short, short, towers.unseen_short),
        )
        return Vectors(*(each.cpu().numpy() for each in (mixed.user, mixed.long, mixed.short)))


def _newest(tokens: Tokens, vectors: torch.Tensor, cold_start: torch.Tensor) -> torch.Tensor:
    """Return the vectors (B, D) of the newest events, of vectors (B, T, D) at every place."""
    if not tokens.item.shape[1]:
        return cold_start.expand(len(tokens.count), -1)
    newest = at_places(vectors, (tokens.count - 1).clamp(min=0)[:, None])[:, 0]
    return torch.where(tokens.count[:, None] > 0, newest, cold_start)
