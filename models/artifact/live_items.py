"""How a model's items go on learning from the stream, found by training and stored with the model."""

from dataclasses import dataclass

from models.errors import SettingsError


@dataclass(frozen=True, slots=True)
class LiveItemsSettings:
    """What the learner of items (models/items/learner.py) and whoever scores live items must agree on.

    A score is user . output + weights[0] log(1 + p[0]) + weights[1] log(1 + p[1]), where p are an item's two
    counts, decayed by the two half-lives.
    """

    #: Whether live items are worth it on the log that the model was trained on.
    is_on: bool = False
    #: The two half-lives of an item's counts (ms), the shorter one first.
    half_lives_ms: tuple[int, int] = (600_000, 14_400_000)
    #: What the logs of the two counts weigh in a score.
    weights: tuple[float, float] = (1.0, 0.0)
    #: AdaGrad's learning rate, per row; 0: vectors stay as they begin, and items are counted alone.
    rate: float = 0.02
    #: Whether the model's own items learn too; else they stay as trained, and new ones alone learn.
    moves_known: bool = True
    #: Share of the way back to its trained vectors that a known item goes when it is clicked.
    pull: float = 0.0003
    #: How far a new item begins in a direction of its own, by which it is told apart before it has readers: 1
    #: as far as known items lie from their categories; 0: it begins as every unknown item of its category.
    own: float = 0.0
    #: Events up to this time (epoch ms) the model has learned: they are counted, not learned again.
    learned_until_ms: int = -(2**62)

    def __post_init__(self) -> None:
        if not 0 < self.half_lives_ms[0] <= self.half_lives_ms[1]:
            raise SettingsError(f"half_lives_ms is {self.half_lives_ms}; they must be over 0, and ascend")
        if not 0 <= self.rate < 1:
            raise SettingsError(f"rate is {self.rate}; it must be at least 0 and under 1")
        if not 0 <= self.pull < 1:
            raise SettingsError(f"pull is {self.pull}; it must be at least 0 and under 1")
        if not 0 <= self.own <= 1:
            raise SettingsError(f"own is {self.own}; it must be from 0 to 1")
