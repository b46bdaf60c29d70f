"""Which partition a key has: the one that Kafka's own clients choose."""

from struct import unpack_from

_SEED, _MIX, _32_BITS = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition Kafka's default partitioner picks for `key`: MurmurHash2 (Appleby 2008) as Kafka's clients seed it.

    aiokafka's own puts its words together byte by byte.
    """
    found = _SEED ^ len(key)
    for word in unpack_from(f"<{len(key) >> 2}I", key):
        mixed = word * _MIX & _32_BITS
        found = (found * _MIX ^ (mixed ^ mixed >> 24) * _MIX) & _32_BITS
    if rest := len(key) & 3:
        found = (found ^ int.from_bytes(key[-rest:], "little")) * _MIX & _32_BITS
    found = (found ^ found >> 13) * _MIX & _32_BITS
    return ((found ^ found >> 15) & 0x7FFFFFFF) % partitions
