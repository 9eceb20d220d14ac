"""What whoever ranks imports, to read vectors and to rank by them; needs no torch and no Faust."""

from stream.serving.live_items import LiveItems
from stream.serving.ranker import Question, Ranked, Ranker, Wish
from stream.serving.reader import AsyncReader, Reader
from stream.serving.recommender import Recommender
from stream.serving.scoring import Candidate

__all__ = [
    "AsyncReader",
    "Candidate",
    "LiveItems",
    "Question",
    "Ranked",
    "Ranker",
    "Reader",
    "Recommender",
    "Wish",
]
