"""Which partition a user's events are in: murmur2, as the Java clients' default partitioner has it."""

from aiokafka.partitioner import murmur2


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition, of so many, that a key belongs to; librdkafka calls it murmur2_random."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
