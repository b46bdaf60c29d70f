from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.state.base import ClaimKind, Want
from heimdall_fleet.state.memory import MemoryState, wait_ms


async def test_the_oldest_answers_are_forgotten_first_when_bytes_run_out() -> None:
    state = MemoryState(lambda: 0.0, max_stored_bytes=100)
    for n in range(5):
        await state.finish_call(f"r{n}", b"x" * 40, 1_000)
    kinds = [(await state.claim_call(f"r{n}", "w", 10)).kind for n in (3, 4)]
    assert kinds == [ClaimKind.DONE, ClaimKind.DONE]
    assert (await state.claim_call("r0", "w", 10)).kind is ClaimKind.OURS


async def test_reservations_are_bounded_in_number() -> None:
    state = MemoryState(lambda: 0.0, max_calls=10)
    for n in range(50):
        await state.claim_call(f"r{n}", "w1", 1_000)
    assert (await state.claim_call("r0", "w2", 1_000)).kind is ClaimKind.OURS
    assert (await state.claim_call("r49", "w2", 1_000)).kind is ClaimKind.HELD


async def test_a_call_that_nobody_asks_about_again_is_never_put_into_words() -> None:
    worded: list[str] = []

    def begun() -> bytes:
        worded.append("once")
        return b"begun"

    state = MemoryState(lambda: 0.0)
    for request in ("answered", "lost"):
        await state.claim_call(request, "w", 1_000)
        assert await state.begin_call(request, "w", begun, 1_000)
    await state.finish_call("answered", b"answer", 1_000)
    assert worded == []
    assert (await state.claim_call("lost", "w", 1_000)).begun == b"begun"


@given(st.floats(0.1, 1e6), st.floats(1, 1e6), st.floats(1, 1e6), st.floats(-1e6, 1e6))
def test_after_the_wait_the_bucket_holds_enough(rate: float, burst: float, amount: float, level: float) -> None:
    want = Want("b", rate, burst, amount)
    level = min(level, burst)
    refilled = min(burst, level + wait_ms(want, level) * rate / 60_000)
    assert refilled >= min(amount, burst) - 1e-3


@given(st.lists(st.floats(0, 5_000), max_size=100))
async def test_no_more_is_given_than_burst_and_rate_allow(pauses: list[float]) -> None:
    now = [0.0]
    state = MemoryState(lambda: now[0])
    given_out = 0
    for pause in pauses:
        now[0] += pause
        given_out += await state.take_tokens([Want("b", 60, 5, 1)]) == 0
    assert given_out <= 5 + now[0] / 1_000 + 1e-6
