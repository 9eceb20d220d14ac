"""The ranker that settings name, untrained."""

from models.ids.vocabulary import Vocabulary
from models.rankers.base import RankerModule
from models.rankers.dien import Dien
from models.rankers.din import Din
from models.rankers.dsin import Dsin
from models.rankers.settings import RankerSettings


def make_ranker(vocabulary: Vocabulary, settings: RankerSettings) -> RankerModule:
    """Return the ranker of the kind that settings name."""
    kinds: dict[str, type[RankerModule]] = {"din": Din, "dsin": Dsin, "dien": Dien}
    return kinds[settings.kind](vocabulary, settings)
