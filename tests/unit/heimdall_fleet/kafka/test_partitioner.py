"""A key has the partition that every other Kafka client would give it."""

from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.kafka.partitioner import partition_of


@given(st.binary(max_size=200), st.integers(min_value=1, max_value=1_000))
def test_a_key_has_the_partition_of_the_default_partitioner(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions
