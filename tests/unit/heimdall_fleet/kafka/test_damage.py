"""What is said of a batch that cannot be decoded, from its bytes alone."""

import struct

import pytest
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c

from heimdall_fleet.kafka.driver.damage import fault_in_words, find_damage

PLACE = ("t", 3)
CRC_AT, ATTRIBUTES_AT, LAST_AT = 17, 21, 23
UNKNOWN_CODEC = 7


def batch(first: int, count: int = 3, **changed: int) -> bytes:
    """A good batch; `codec`, `last` and `crc` change what its head says, with the checksum made right but for `crc`."""
    builder = BatchBuilder(1 << 16, 0)
    for _ in range(count):
        builder.append(timestamp=1_000, key=None, value=b"hello", headers=[])
    raw = bytearray(builder._build())
    struct.pack_into(">q", raw, 0, first)
    struct.pack_into(">h", raw, ATTRIBUTES_AT, changed.get("codec", 0))
    struct.pack_into(">i", raw, LAST_AT, changed.get("last", first + count - 1) - first)
    struct.pack_into(">I", raw, CRC_AT, calc_crc32c(bytes(raw[ATTRIBUTES_AT:])) ^ changed.get("crc", 0))
    return bytes(raw)


def test_good_batches_have_no_damage() -> None:
    assert find_damage(batch(5) + batch(8), PLACE, 5, 11) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"crc": 1}, "cannot be decoded: its checksum is wrong (no codec)"),
        ({"codec": UNKNOWN_CODEC}, "(codec 7, which Kafka does not have)"),
        ({"codec": 4}, "(zstd)"),
    ],
)
def test_the_first_bad_batch_is_one_record_at_its_last_offset(changed: dict[str, int], said: str) -> None:
    raw = batch(8, **changed)
    damaged = find_damage(batch(5) + raw + batch(11, crc=1), PLACE, 5, 20)
    assert damaged is not None
    assert (damaged.topic, damaged.partition, damaged.offset, damaged.timestamp_ms) == (*PLACE, 10, 1_000)
    assert damaged.value == raw
    assert damaged.why.startswith("a batch of 3 records, t-3 at 8 to 10, cannot be decoded: ")
    assert said in damaged.why
    assert "hello" not in damaged.why


@pytest.mark.parametrize("last", [20, 7, 4, 2**31])
def test_a_head_that_points_behind_the_log_or_back_is_not_believed(last: int) -> None:
    assert find_damage(batch(8, last=last, crc=1), PLACE, 8, 20) is None


def test_a_batch_that_is_cut_off_or_of_another_format_tells_nothing() -> None:
    raw = batch(5, crc=1)
    assert find_damage(raw[:-1], PLACE, 5, 20) is None
    assert find_damage(raw[:16] + b"\x01" + raw[17:], PLACE, 5, 20) is None


def test_an_error_of_a_codec_is_told_without_the_bytes_that_it_may_quote() -> None:
    assert fault_in_words(ValueError("not a frame: b'MY PROMPT'")) == "ValueError"
    assert "no leader" in fault_in_words(KafkaError("no leader"))
