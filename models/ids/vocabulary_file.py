"""A vocabulary as an artifact stores it: the ids and what they are, without the tables that find them."""

import msgspec

#: Index of the padding of a tensor, of items and categories alike.
PADDING = 0
#: Index of an id outside the vocabulary. An unknown item still has its category.
UNKNOWN = 1
#: Index of the first known id.
FIRST_KNOWN = 2


class VocabularyFile(msgspec.Struct):
    """item_ids[i] has index i + FIRST_KNOWN, and so has category_ids[i].

    item_categories (I,) is the category index of each known item.
    """

    item_ids: list[str]
    item_categories: list[int]
    category_ids: list[str]

    def __post_init__(self) -> None:
        check_categories(len(self.item_ids), len(self.item_categories))

    def to_bytes(self) -> bytes:
        """Return it as MessagePack."""
        return msgspec.msgpack.encode(self)


def check_categories(items: int, item_categories: int) -> None:
    """Raise ValueError unless there is a category for each item."""
    if items != item_categories:
        raise ValueError(f"{items} items but {item_categories} item categories")


def read_vocabulary_file(value: bytes) -> VocabularyFile:
    """Return what `to_bytes` wrote; ValueError where the bytes are not a vocabulary."""
    try:
        return msgspec.msgpack.decode(value, type=VocabularyFile)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a vocabulary: {error}") from error
