"""How many dead letters there are of each reason, and what became of them."""

from collections import defaultdict
from dataclasses import dataclass, field

from stream.dead_letters.letter import DeadLetter
from stream.dead_letters.markers import Redriven
from stream.dead_letters.topic import Choice, DeadLetterTopic


@dataclass(slots=True)
class Count:
    """Dead letters of one reason."""

    letters: int = 0
    redriven: int = 0
    in_doubt: int = 0
    failed_again: int = 0
    #: When they became dead letters (epoch ms).
    times_ms: list[int] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Return how many were not sent again yet."""
        return self.letters - self.redriven

    def add(self, letter: DeadLetter, redriven: Redriven) -> None:
        """Count one more."""
        self.letters += 1
        self.redriven += redriven.is_sent(letter.place)
        self.in_doubt += redriven.is_in_doubt(letter.place)
        self.failed_again += letter.tries > 0
        self.times_ms = [min([*self.times_ms, letter.at_ms]), max([*self.times_ms, letter.at_ms])]


def count(topic: DeadLetterTopic, choice: Choice) -> dict[str, Count]:
    """Return the counts of the chosen letters by reason, most first."""
    redriven = topic.redriven()
    counts: dict[str, Count] = defaultdict(Count)
    for letter in topic.letters(choice):
        counts[letter.reason].add(letter, redriven)
    return dict(sorted(counts.items(), key=lambda each: -each[1].letters))
