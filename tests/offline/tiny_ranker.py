"""The settings of a ranker that learns in a moment."""

from models.rankers.settings import RankerSettings

TINY = RankerSettings(
    max_events=4,
    sessions=2,
    item_dimension=8,
    category_dimension=4,
    heads=2,
    attention_units=8,
    units=(12,),
    features=False,
)
