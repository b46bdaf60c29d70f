"""The decision after a failed attempt: a table for every class, and what holds for every sequence of failures."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.dispatch.capacity.pool import Readiness, Status
from heimdall_fleet.dispatch.failover import (
    Chain,
    Move,
    NextMove,
    OtherKey,
    Retry,
    Rules,
    Stop,
    Tried,
    Wait,
    back_off,
    first_move,
    next_move,
)
from heimdall_fleet.dispatch.routes import Offer, Route
from heimdall_fleet.dispatch.settings import NetworkSettings
from heimdall_fleet.providers.dialect import Action, AttemptFailure, Target
from heimdall_schemas.failure import FailureCode

DEADLINE = 60_000.0


def route(provider: str, model: str, bucket: str = "hard", rank: int = 0, window: int | None = None) -> Route:
    target = Target(provider, "openai", "", model, model, {}, {}, None, {})
    return Route(Offer(target, None, window), bucket, {}, rank)


def weighted(provider: str, model: str) -> Route:
    plain = route(provider, model)
    return Route(plain.offer._replace(weight=1.0), plain.bucket, {}, 0)


A1 = route("anthropic", "claude", window=200_000)
A2 = route("openai", "gpt-5", window=400_000)
A3 = route("openai", "gpt-mini", window=128_000)
UP = route("google", "gemini", "harder", rank=1, window=1_000_000)
ROUTES = (A1, A2, A3, UP)


@dataclass
class Keys:
    """Capacity by hand: which keys a provider has, and when a place can be asked."""

    keys: dict[str, set[str]] = field(default_factory=dict)
    closed: dict[tuple[str, str], Status] = field(default_factory=dict)

    def status(self, route: Route, without: frozenset[str], now_ms: float) -> Status:
        if not self.keys.get(route.provider, {"k1"}) - without:
            return Status(Readiness.NEVER, math.inf)
        return self.closed.get(route.place, Status(Readiness.READY, now_ms))


def chain(*routes: Route, current: Route | None = None, **rules: Any) -> Chain:
    defaults: dict[str, Any] = {
        "deadline_ms": DEADLINE,
        "max_attempts": 4,
        "enabled": True,
        "network": lambda provider: NetworkSettings(),
        "affordable": lambda route, spent: True,
        "overflow_chain": lambda route: (),
        "content_chain": lambda route: (),
        "jitter": lambda: 0.5,
    }
    listed = routes or ROUTES
    return Chain(routes=listed, rules=Rules(**{**defaults, **rules}), current=current or listed[0])


def failed(code: FailureCode, action: Action, **fields: Any) -> Tried:
    return Tried("k1", AttemptFailure(code, action, "why", **fields))


def decide(tried: Tried, begun: Chain | None = None, keys: Keys | None = None, now_ms: float = 0.0) -> NextMove:
    return next_move(begun or chain(), tried, keys or Keys(), now_ms)[1]


C = FailureCode
LIMITED = failed(C.PROVIDER_RATE_LIMITED, Action.OTHER_KEY, status=429)
SERVER = failed(C.PROVIDER_ERROR, Action.SAME_KEY, status=500)
BUSY = failed(C.PROVIDER_OVERLOADED, Action.OTHER_PROVIDER, status=503)
STALE = failed(C.PROVIDER_UNREACHABLE, Action.SAME_KEY, retry_after_ms=0, connection_only=True)
DOWN = failed(C.PROVIDER_UNREACHABLE, Action.SAME_KEY, connection_only=True)
BAD = failed(C.PROVIDER_REJECTED, Action.FINAL, status=400)
NO_KEY = failed(C.PROVIDER_AUTH, Action.OTHER_KEY, status=401, disable_key=True)
MISSING = failed(C.PROVIDER_NOT_FOUND, Action.OTHER_PROVIDER, status=404)
OVERFLOW = failed(C.CALLER_CONTEXT_TOO_LONG, Action.OTHER_MODEL, context_overflow=True)
CONTENT = failed(C.PROVIDER_REFUSED, Action.FINAL, content_policy=True)


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        (LIMITED, Move(A2)),
        (SERVER, Retry(500.0)),
        (BUSY, Move(A2)),
        (STALE, Retry(0.0)),
        (DOWN, Retry(500.0)),
        (NO_KEY, Move(A2)),
        (MISSING, Move(A2)),
        (OVERFLOW, Move(A2)),
        (failed(C.PROVIDER_TIMEOUT, Action.OTHER_PROVIDER), Move(A2)),
        (failed(C.PROVIDER_TRUNCATED, Action.OTHER_PROVIDER), Move(A2)),
        (failed(C.PROVIDER_MALFORMED, Action.OTHER_PROVIDER), Move(A2)),
        (failed(C.CALLER_TOO_LARGE, Action.OTHER_PROVIDER, status=413), Move(A2)),
    ],
)
def test_every_class_has_its_first_step(tried: Tried, expected: NextMove) -> None:
    assert decide(tried) == expected


@pytest.mark.parametrize("tried", [BAD, CONTENT])
def test_final_classes_stop_at_once(tried: Tried) -> None:
    assert isinstance(decide(tried), Stop)


@pytest.mark.parametrize("tried", [LIMITED, BUSY, NO_KEY, MISSING, OVERFLOW, CONTENT])
def test_without_fallbacks_the_first_failure_is_final(tried: Tried) -> None:
    assert isinstance(decide(tried, chain(enabled=False)), Stop)


@pytest.mark.parametrize("tried", [SERVER, STALE])
def test_without_fallbacks_the_same_key_may_be_asked_again(tried: Tried) -> None:
    assert isinstance(decide(tried, chain(enabled=False)), Retry)


@pytest.mark.parametrize("tried", [LIMITED, NO_KEY])
def test_another_key_is_asked_before_another_route(tried: Tried) -> None:
    keys = Keys(keys={"anthropic": {"k1", "k2"}})
    assert decide(tried, keys=keys) == OtherKey(frozenset({"k1"}))


def test_a_fresh_connection_is_tried_once_only() -> None:
    begun, move = next_move(chain(), STALE, Keys(), 0.0)
    assert move == Retry(0.0)
    assert next_move(begun, STALE, Keys(), 0.0)[1] == Move(A2)


def test_the_same_key_is_asked_as_often_as_the_provider_allows_then_another_route() -> None:
    begun, moves = chain(max_attempts=9), []
    for _ in range(3):
        begun, move = next_move(begun, SERVER, Keys(), 0.0)
        moves.append(move)
    assert moves == [Retry(500.0), Retry(1_000.0), Move(A2)]


def test_a_provider_that_says_retry_at_once_is_still_given_the_back_off() -> None:
    assert decide(failed(C.PROVIDER_ERROR, Action.SAME_KEY, status=500, retry_after_ms=0)) == Retry(500.0)


def test_a_pause_longer_than_the_longest_back_off_is_not_waited_for_while_others_are_healthy() -> None:
    tried = failed(C.PROVIDER_ERROR, Action.SAME_KEY, retry_after_ms=30_000)
    assert decide(tried) == Move(A2)


def test_a_provider_that_is_down_comes_last_even_before_a_dearer_bucket() -> None:
    cheap1, cheap2 = route("openrouter", "qwen", "cheap"), route("openrouter", "r1", "cheap")
    mid = route("openai", "gpt", "mid", rank=1)
    begun = chain(cheap1, cheap2, mid)._replace(retries=1)
    assert decide(DOWN, begun) == Move(mid)


def test_a_server_error_stays_in_the_bucket_but_leaves_the_troubled_provider() -> None:
    same, other = route("openai", "gpt-mini"), route("google", "flash")
    begun = chain(A2, same, other, UP)._replace(retries=2)
    assert decide(SERVER, begun) == Move(other)


def test_a_limited_place_is_waited_for_when_nothing_else_is_left() -> None:
    keys = Keys(closed={A1.place: Status(Readiness.CLOSED, 5_000.0)})
    assert decide(LIMITED, chain(A1), keys) == Wait(5_000.0)


def test_a_limit_beyond_the_deadline_ends_the_order_now() -> None:
    keys = Keys(closed={A1.place: Status(Readiness.CLOSED, DEADLINE + 1)})
    move = decide(LIMITED, chain(A1), keys)
    assert isinstance(move, Stop)
    assert move.failure.code is C.PROVIDER_RATE_LIMITED


def test_a_busy_model_is_waited_for_before_its_runner_up_is_asked() -> None:
    keys = Keys(closed={A1.place: Status(Readiness.BUSY, 0.0)})
    begun, move = first_move(chain(), keys, 0.0)
    assert move == Wait(2_000.0, frozenset({"anthropic"}))
    assert first_move(begun, keys, 2_000.0)[1] == Move(A2)


def test_a_busy_place_is_not_waited_for_where_the_model_has_another_weighted_one() -> None:
    eu, us, other = weighted("eu", "claude"), weighted("us", "claude"), weighted("eu", "gpt-5")
    keys = Keys(closed={eu.place: Status(Readiness.BUSY, 0.0)})
    assert first_move(chain(eu, us), keys, 0.0)[1] == Move(us)
    assert isinstance(first_move(chain(eu, other), keys, 0.0)[1], Wait)


def test_where_the_line_is_full_the_runner_up_is_asked_at_once_but_no_dearer_bucket() -> None:
    full = Keys(closed={A1.place: Status(Readiness.FULL, 0.0)})
    assert first_move(chain(), full, 0.0)[1] == Move(A2)
    assert first_move(chain(A1, UP), full, 0.0)[1] == Wait(2_000.0, frozenset({"anthropic"}))


def test_a_busy_bucket_is_not_left_for_a_dearer_one_until_half_of_the_time_is_over() -> None:
    keys = Keys(closed={A1.place: Status(Readiness.BUSY, 0.0)})
    begun, _ = first_move(chain(A1, UP), keys, 0.0)
    assert isinstance(first_move(begun, keys, DEADLINE / 2 - 1)[1], Wait)
    assert first_move(begun, keys, DEADLINE / 2)[1] == Move(UP)


@pytest.mark.parametrize(
    "tried",
    [
        MISSING,
        failed(C.CALLER_TOO_LARGE, Action.OTHER_PROVIDER, status=413),
        failed(C.PROVIDER_AUTH, Action.OTHER_PROVIDER, status=403),
        failed(C.PROVIDER_TOO_LARGE, Action.OTHER_PROVIDER, status=200),
        failed(C.PROVIDER_REJECTED, Action.OTHER_PROVIDER, connection_only=True),
    ],
)
def test_a_place_that_would_say_the_same_again_is_not_asked_again(tried: Tried) -> None:
    busy = Keys(closed={A2.place: Status(Readiness.BUSY, 0.0)})
    assert isinstance(decide(tried, chain(A1, A2), busy), Wait)
    move = decide(tried, chain(A1))
    assert isinstance(move, Stop)
    assert move.failure.code is tried.failure.code
    assert move.failure.message == "claude at anthropic: why"


def test_an_order_that_nobody_can_answer_is_told_so_and_not_to_come_again() -> None:
    cannot = failed(C.PROVIDER_REJECTED, Action.OTHER_PROVIDER, connection_only=True)
    move = sequence(chain(A1, UP), MISSING, cannot)[1]
    assert isinstance(move, Stop)
    assert move.failure.code is C.PROVIDER_REJECTED
    assert move.failure.message == "2 attempts failed; the last one, gemini at google: provider_rejected: why"
    move = sequence(chain(A1, UP, max_attempts=2), MISSING, BUSY)[1]
    assert isinstance(move, Stop)
    assert move.failure.code is C.PROVIDER_EXHAUSTED


def test_a_place_that_failed_is_asked_again_only_after_a_back_off_that_grows() -> None:
    begun, move = next_move(chain(A1), BUSY, Keys(), 0.0)
    assert move == Wait(500.0)
    assert first_move(begun, Keys(), 499.0)[1] == Wait(500.0)
    begun, move = first_move(begun, Keys(), 500.0)
    assert move == Move(A1)
    assert next_move(begun, BUSY, Keys(), 600.0)[1] == Wait(1_600.0)
    assert decide(BUSY, chain(A1, A2)) == Move(A2)


def test_a_place_whose_key_is_out_may_be_asked_with_another_one() -> None:
    unpaid = failed(C.PROVIDER_QUOTA, Action.OTHER_PROVIDER, status=402, disable_key=True)
    assert decide(unpaid, chain(A1)) == Move(A1)


def test_an_overflow_skips_smaller_windows_and_takes_its_own_chain_first() -> None:
    special = route("google", "flash", window=None)
    assert decide(OVERFLOW, chain(A1, A3, UP)) == Move(UP)
    assert decide(OVERFLOW, chain(A1, A3, UP, overflow_chain=lambda at: (special,))) == Move(special)
    move = decide(OVERFLOW, chain(UP, A1, current=UP))
    assert isinstance(move, Stop)
    assert move.failure.code is C.CALLER_CONTEXT_TOO_LONG


def test_a_refused_content_takes_its_own_chain() -> None:
    special = route("google", "flash")
    assert decide(CONTENT, chain(content_chain=lambda at: (special,))) == Move(special)


def test_a_chain_that_overflows_again_ends_instead_of_circling() -> None:
    special = route("google", "flash")
    begun, move = next_move(chain(A1, overflow_chain=lambda at: (special,)), OVERFLOW, Keys(), 0.0)
    assert move == Move(special)
    begun, move = next_move(begun, OVERFLOW, Keys(), 0.0)
    assert isinstance(move, Stop)


def test_money_left_decides_who_may_be_asked() -> None:
    begun = chain(affordable=lambda at, spent: at.provider != "openai" and spent < 100)
    assert next_move(begun, replace_cost(BUSY, 50), Keys(), 0.0)[1] == Move(UP)
    move = next_move(begun, replace_cost(BUSY, 100), Keys(), 0.0)[1]
    assert isinstance(move, Stop)
    assert move.failure.code is C.POLICY_BUDGET


def replace_cost(tried: Tried, cost_usd_micros: int) -> Tried:
    return tried._replace(cost_usd_micros=cost_usd_micros)


def test_after_the_deadline_nothing_is_asked() -> None:
    move = decide(BUSY, now_ms=DEADLINE)
    assert isinstance(move, Stop)
    assert move.failure.code is C.POLICY_EXPIRED


@given(st.floats(0, 1), st.integers(0, 10))
def test_the_back_off_doubles_up_to_its_bound_with_a_fifth_of_jitter(jitter: float, retries: int) -> None:
    pause = back_off(retries, NetworkSettings(backoff_initial_ms=500, backoff_max_ms=5_000), jitter)
    exact = min(500 * 2**retries, 5_000)
    assert 0.799 * exact <= pause <= 1.201 * exact


FAILURES = [LIMITED, SERVER, BUSY, STALE, DOWN, NO_KEY, MISSING, OVERFLOW, CONTENT, BAD]


def fit(begun: Chain, keys: Keys, at: Route) -> bool:
    """Whether a key is left there that can be asked now."""
    spent = frozenset(key for provider, key in begun.tried_keys if provider == at.provider)
    return keys.status(at, spent, 0.0).readiness is Readiness.READY


@given(
    st.lists(st.sampled_from(FAILURES), min_size=12, max_size=12),
    st.integers(1, 8),
    st.sets(st.sampled_from(["anthropic", "openai", "google"])),
)
def test_every_sequence_of_failures_ends_within_the_attempts_and_asks_failed_places_last(
    failures: list[Tried], max_attempts: int, closed: set[str]
) -> None:
    shut = {at.place: Status(Readiness.CLOSED, math.inf) for at in ROUTES if at.provider in closed}
    keys, asked = Keys(closed=shut), list[tuple[str, str]]()
    begun, move = first_move(chain(max_attempts=max_attempts), keys, 0.0)
    for tried in failures:
        if isinstance(move, Stop | Wait):
            break
        assert begun.current is not None
        if isinstance(move, Move):
            untouched = [at for at in begun.routes if at.place not in begun.failed | begun.out and fit(begun, keys, at)]
            assert not untouched or move.target in untouched
            assert move.target.provider not in closed
        asked.append(begun.current.place)
        begun, move = next_move(begun, tried, keys, 0.0)
    counted = len(asked) - sum(tried is LIMITED for tried in failures[: len(asked)])
    assert counted <= max_attempts
    assert isinstance(move, Stop | Wait) or counted < max_attempts


def sequence(begun: Chain, *tries: Tried, keys: Keys | None = None) -> tuple[Chain, NextMove]:
    begun, move = first_move(begun, keys or Keys(), 0.0)
    for tried in tries:
        begun, move = next_move(begun, tried, keys or Keys(), 0.0)
    return begun, move


def test_being_turned_away_by_rate_limits_uses_no_attempts_up() -> None:
    begun, move = sequence(chain(A1, max_attempts=2), *[LIMITED] * 10)
    assert move == Move(A1)
    assert isinstance(next_move(begun, BUSY, Keys(), 0.0)[1], Wait)


def test_rate_limits_for_ever_end_an_order_all_the_same() -> None:
    assert isinstance(sequence(chain(A1), *[LIMITED] * 60)[1], Stop)


def test_the_last_attempt_is_kept_when_everybody_who_was_asked_is_out_of_order() -> None:
    apart = route("mistral", "large")
    begun, move = sequence(chain(A1, A2, UP, apart), BUSY, BUSY, BUSY)
    assert move == Wait(15_000.0)
    assert first_move(begun, Keys(), 15_000.0)[1] == Move(UP)
    late = next_move(sequence(chain(A1, A2, UP, apart), BUSY, BUSY)[0], BUSY, Keys(), DEADLINE - 1_000.0)[1]
    assert late == Wait(DEADLINE - 500.0)


def test_the_last_attempt_is_not_kept_from_somebody_who_was_not_asked_yet() -> None:
    assert sequence(chain(A1, A2, UP), STALE, STALE, BUSY)[1] == Move(UP)
    shut = Keys(closed={UP.place: Status(Readiness.CLOSED, 30_000.0)})
    assert sequence(chain(A1, A2, UP), STALE, STALE, BUSY, keys=shut)[1] == Wait(15_000.0)


def test_the_last_attempt_is_not_kept_after_a_failure_that_no_time_mends() -> None:
    broken = failed(C.PROVIDER_MALFORMED, Action.OTHER_PROVIDER)
    assert isinstance(sequence(chain(A1, A2, UP, route("mistral", "large")), BUSY, broken, BUSY)[1], Move)


def test_the_only_attempt_is_not_kept() -> None:
    assert isinstance(sequence(chain(max_attempts=1), BUSY)[1], Stop)


@given(st.sampled_from(FAILURES), st.integers(0, 5))
def test_a_decision_changes_nothing_it_was_given(tried: Tried, attempts: int) -> None:
    begun = chain()._replace(attempts=attempts)
    before = begun._replace()
    assert repr(next_move(begun, tried, Keys(), 0.0)) == repr(next_move(begun, tried, Keys(), 0.0))
    assert begun == before
