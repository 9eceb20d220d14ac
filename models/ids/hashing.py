"""XXH3's 64 bits of many texts where they lie: what `event_hash` says of each, without an object for any.

Source: XXH3_64bits of xxHash 0.8 with its default secret and no seed, for up to 128 bytes; longer ones, which
ids hardly are, go to the library.
"""

import numpy as np
import xxhash

from models.arrays import Bytes, Ints, Words
from models.compiled import compiled
from models.ids.texts import Texts

#: The longest text that is hashed here (bytes).
LONGEST = 128

#: The beginning of XXH3's default secret, as words at each of its bytes from which one is read.
_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
)
_KEYS = np.frombuffer(_SECRET, np.uint64)

_PRIME_1, _PRIME_2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
_PRIME_3, _PRIME_MX1 = np.uint64(0x165667B19E3779F9), np.uint64(0x165667919E3779F9)
_PRIME_MX2 = np.uint64(0x9FB21C651E98DF25)
_LOW = np.uint64(0xFFFFFFFF)


def hashes_of_texts(texts: Texts) -> Words:
    """Return the hash of each of N texts (N,)."""
    hashes = np.zeros(len(texts), np.uint64)
    _hash_all(texts.text, texts.starts, _KEYS, hashes)
    for place in np.flatnonzero(texts.lengths() > LONGEST).tolist():
        content = texts.text[texts.starts[place] : texts.starts[place + 1]].tobytes()
        hashes[place] = xxhash.xxh3_64_intdigest(content)
    return hashes


@compiled
def _hash_all(text: Bytes, starts: Ints, keys: Words, hashes: Words) -> None:
    for place in range(len(hashes)):
        begin, length = starts[place], starts[place + 1] - starts[place]
        if length > 128:
            continue
        if length > 16:
            hashes[place] = _hash_long(text, begin, length, keys)
        elif length > 8:
            hashes[place] = _hash_to_16(text, begin, length, keys)
        else:
            hashes[place] = _hash_to_8(text, begin, length, keys)


@compiled
def _hash_to_8(text: Bytes, begin: int, length: int, keys: Words) -> np.uint64:
    if length == 0:
        return _avalanche_short(keys[7] ^ keys[8])
    if length < 4:
        first, middle = np.uint64(text[begin]), np.uint64(text[begin + (length >> 1)])
        last = np.uint64(text[begin + length - 1])
        mixed = (
            (first << np.uint64(16)) | (middle << np.uint64(24)) | last | (np.uint64(length) << np.uint64(8))
        )
        return _avalanche_short(mixed ^ ((keys[0] & _LOW) ^ (keys[0] >> np.uint64(32))))
    first, last = four_bytes(text, begin), four_bytes(text, begin + length - 4)
    mixed = (last + (first << np.uint64(32))) ^ (keys[1] ^ keys[2])
    mixed ^= _rotated(mixed, 49) ^ _rotated(mixed, 24)
    mixed *= _PRIME_MX2
    mixed ^= (mixed >> np.uint64(35)) + np.uint64(length)
    mixed *= _PRIME_MX2
    return mixed ^ (mixed >> np.uint64(28))  # type: ignore[no-any-return]


@compiled
def _hash_to_16(text: Bytes, begin: int, length: int, keys: Words) -> np.uint64:
    low = eight_bytes(text, begin) ^ (keys[3] ^ keys[4])
    high = eight_bytes(text, begin + length - 8) ^ (keys[5] ^ keys[6])
    return _avalanche(np.uint64(length) + _swapped(low) + high + _folded(low, high))


@compiled
def _hash_long(text: Bytes, begin: int, length: int, keys: Words) -> np.uint64:
    """Hash 17 to 128 bytes: pairs of 16 of them, from both ends inwards."""
    total = np.uint64(length) * _PRIME_1
    for pair in range((length - 1) // 32 + 1):
        total += _mixed_16(text, begin + 16 * pair, keys, 4 * pair)
        total += _mixed_16(text, begin + length - 16 * (pair + 1), keys, 4 * pair + 2)
    return _avalanche(total)


@compiled
def _mixed_16(text: Bytes, at: int, keys: Words, key: int) -> np.uint64:
    return _folded(eight_bytes(text, at) ^ keys[key], eight_bytes(text, at + 8) ^ keys[key + 1])


@compiled
def _folded(one: np.uint64, other: np.uint64) -> np.uint64:
    """Multiply to 128 bits, and return the upper half xor the lower."""
    half = np.uint64(32)
    low_low, high_low = (one & _LOW) * (other & _LOW), (one >> half) * (other & _LOW)
    low_high, high_high = (one & _LOW) * (other >> half), (one >> half) * (other >> half)
    cross = (low_low >> half) + (high_low & _LOW) + low_high
    upper = (high_low >> half) + (cross >> half) + high_high
    return upper ^ ((cross << half) | (low_low & _LOW))


@compiled
def _avalanche(mixed: np.uint64) -> np.uint64:
    mixed ^= mixed >> np.uint64(37)
    mixed *= _PRIME_MX1
    return mixed ^ (mixed >> np.uint64(32))


@compiled
def _avalanche_short(mixed: np.uint64) -> np.uint64:
    mixed ^= mixed >> np.uint64(33)
    mixed *= _PRIME_2
    mixed ^= mixed >> np.uint64(29)
    mixed *= _PRIME_3
    return mixed ^ (mixed >> np.uint64(32))


@compiled
def _rotated(word: np.uint64, bits: int) -> np.uint64:
    return (word << np.uint64(bits)) | (word >> np.uint64(64 - bits))


@compiled
def _swapped(word: np.uint64) -> np.uint64:
    """Return the word with its bytes in the other order."""
    result = np.uint64(0)
    for place in range(8):
        result |= ((word >> np.uint64(8 * place)) & np.uint64(0xFF)) << np.uint64(56 - 8 * place)
    return result


@compiled
def four_bytes(text: Bytes, at: int) -> np.uint64:
    """Return the four bytes from here on as a number, the first as its lowest."""
    word = np.uint64(0)
    for place in range(4):
        word |= np.uint64(text[at + place]) << np.uint64(8 * place)
    return word


@compiled
def eight_bytes(text: Bytes, at: int) -> np.uint64:
    """Return the eight bytes from here on as a number, the first as its lowest."""
    return four_bytes(text, at) | (four_bytes(text, at + 4) << np.uint64(32))
