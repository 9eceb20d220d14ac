"""What is where in Redis: key names, and the fields of a user's HASH; vectors.py has the bytes of a vector.

    user:{id}   HASH
        vec, long, short   the vectors, little-endian; long and short empty where the model has none
        model              version of the artifact they come from
        ts                 event time of the user's newest event, ms
        n                  events in the window
        written_at         wall-clock of the write, ms
        format             how the vectors are written: float32, float16 or int8
        history            the newest events (models/windows/recent.py); empty unless asked for
        publication        number under which the model was last published
        epoch, seq         what a write is compared by: the epoch of the source topic, the source offset
                           applied last
        inputs             number of the live inputs (input_rows.py) that items were read by; empty: none,
                           all entered as they were trained
        other:*            the same fields for a second model, while one is staged or kept for rollback

The HASH of the empty id, which no user has, is what a cold-start user gets. A model has at most one of the
two slots of a user. Which one says nothing: a reader takes the one whose `model` it wants (lua/slots.lua
has the rule of writing).

    twintide:category:user:{category}  HASH with the same fields: what a cold-start user gets at a category;
                                       not under the key prefix, where any id may be a user's
    twintide:models:user:              HASH, which models are live (model_registry.py); ends with the key
                                       prefix
    twintide:writer:user:{writer}      counter of a writer's calls, by which it notices that writes were lost
    twintide:source:user:              which topic fills the key prefix (prefix_source.py)
    twintide:topic-epochs              HASH of topic id -> epoch
    twintide:items:{version}:...       live items of a model (item_rows.py); they end with the key prefix:
        header           HASH, what there is
        delta:run:n      the rows that snapshot n changed
        chunk:run:c      the rows of chunk c, for whoever has none yet
        runs             counter, the number of the learner that writes
    twintide:inputs:{version}:...      the same of the live inputs, which workers encode with (input_rows.py)
"""

from typing import Literal

#: How a vector may be stored.
VectorFormat = Literal["float32", "float16", "int8"]

#: Stored vector format -> bytes per dimension.
VECTOR_FORMATS: dict[VectorFormat, int] = {"float32": 4, "float16": 2, "int8": 1}

#: The id whose HASH holds the vector of a cold-start user.
COLD_START_USER = ""

#: The fields of one slot of a user's HASH, in the order in which the store's script takes them.
FIELDS = (
    *("model", "publication", "epoch", "seq", "ts", "n", "written_at", "format"),
    *("vec", "long", "short", "history", "inputs"),
)

#: What the names of the second slot's fields begin with.
OTHER = "other:"

#: HASH of topic id -> epoch.
TOPIC_EPOCHS_KEY = "twintide:topic-epochs"


def category_key(key_prefix: str, category: str) -> str:
    """Return the key of the HASH that holds what a cold-start user gets at a category."""
    return f"twintide:category:{key_prefix}{category}"


def models_key(key_prefix: str) -> str:
    """Return the key of the HASH that says which models are live for the users of this prefix."""
    return f"twintide:models:{key_prefix}"


def writer_key(key_prefix: str, writer: str, tag: str = "") -> str:
    """Return the key that counts the calls of one writer.

    In a Cluster the tag decides on which node it is, whatever tag the key prefix may have behind it.
    """
    return f"twintide:writer:{f'{{{tag}}}:' if tag else ''}{key_prefix}{writer}"


class ItemKeys:
    """The keys of the live items of one model, or of its live inputs, for the users of a prefix.

    All have the model's version as their hash tag, so that in a Cluster they are in one slot, and one script
    may write them together.
    """

    def __init__(self, key_prefix: str, version: str, kind: Literal["items", "inputs"] = "items") -> None:
        self._begin, self._prefix = f"twintide:{kind}:{{{version}}}", key_prefix

    @property
    def header(self) -> str:
        """Return the key of the HASH that says what there is."""
        return f"{self._begin}:header:{self._prefix}"

    @property
    def runs(self) -> str:
        """Return the key of the counter that gives every learner its number."""
        return f"{self._begin}:runs:{self._prefix}"

    def delta(self, run: int, snapshot: int) -> str:
        """Return the key of what a snapshot changed."""
        return f"{self._begin}:delta:{run}:{snapshot}:{self._prefix}"

    def chunk(self, run: int, number: int) -> str:
        """Return the key of the rows of a chunk."""
        return f"{self._begin}:chunk:{run}:{number}:{self._prefix}"
