"""What a ranker imports to read vectors; needs no torch and no Faust."""

from stream.serving.live_items import LiveItems
from stream.serving.reader import AsyncReader, Reader
from stream.serving.recommender import Recommender

__all__ = ["AsyncReader", "LiveItems", "Reader", "Recommender"]
