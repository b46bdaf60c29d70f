from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from heimdall_schemas.ids import derived_id, new_id

moments = st.integers(0, 2**48 - 1)
entropies = st.binary(min_size=10, max_size=10)


@given(moments, entropies)
def test_an_id_is_a_uuid_of_version_7_that_holds_its_time(unix_ms: int, entropy: bytes) -> None:
    made = UUID(new_id(unix_ms, entropy))
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == unix_ms


@given(moments, moments, entropies, entropies)
def test_ids_sort_by_time_as_text(one_ms: int, other_ms: int, one: bytes, other: bytes) -> None:
    if one_ms != other_ms:
        assert (new_id(one_ms, one) < new_id(other_ms, other)) == (one_ms < other_ms)
    else:
        assert new_id(one_ms, one)[:13] == new_id(other_ms, other)[:13]


@given(entropies, entropies)
def test_every_one_of_the_74_random_bits_is_used(one: bytes, other: bytes) -> None:
    mask = (1 << 74) - 1
    same = int.from_bytes(one, "big") & mask == int.from_bytes(other, "big") & mask
    assert (new_id(0, one) == new_id(0, other)) == same


def test_twenty_thousand_ids_of_one_millisecond_are_all_different() -> None:
    assert len({new_id(1) for _ in range(20_000)}) == 20_000


def test_an_id_made_now_lies_in_this_century() -> None:
    assert 1_700_000_000_000 < UUID(new_id()).int >> 80 < 4_102_444_800_000


def test_a_derived_id_depends_on_each_part_and_on_where_the_parts_end() -> None:
    assert derived_id("a", "b") == derived_id("a", "b")
    assert len({derived_id("a", "b"), derived_id("ab"), derived_id("a", "b", ""), derived_id("b", "a")}) == 4
    assert UUID(derived_id("a")).version == 5
