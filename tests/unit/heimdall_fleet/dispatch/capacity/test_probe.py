"""The free probe: three bad ones take a provider out, two good ones bring it back; it is authorised as calls are."""

from typing import TYPE_CHECKING

import httpx
import pytest

from heimdall_fleet.dispatch.capacity.pool import Pool, Readiness
from heimdall_fleet.dispatch.capacity.probe import Verdict, ask, is_up, models_request
from heimdall_fleet.dispatch.routes import Offer, Route
from heimdall_fleet.dispatch.settings import KeySettings, ProviderSettings
from heimdall_fleet.providers.dialect import Action, AttemptFailure, Target
from heimdall_fleet.providers.http import HttpClient
from heimdall_fleet.providers.registry import DIALECTS
from heimdall_schemas.failure import FailureCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.heimdall_fleet.dispatch.conftest import Bench

KEY = KeySettings("a", "sk-example-secret")
ROUTE = Route(
    Offer(Target("p", "custom", "https://p.test/v1", "m", "p/m", {}, {}, None, {}), None, None), "hard", {}, 0
)


def provider(type_: str = "custom", base_url: str = "https://p.test/v1") -> ProviderSettings:
    return ProviderSettings("p", type_, base_url, (KEY,))


def test_three_bad_probes_in_a_row_take_out_and_two_good_ones_bring_back() -> None:
    verdict = Verdict(unhealthy=3, healthy=2)
    told = [verdict.told(good) for good in (False, False, True, False, False, False, True, False, True, True)]
    assert told == [False, False, False, False, False, True, False, False, False, True]
    assert not verdict.down


@pytest.mark.parametrize(
    ("type_", "base_url", "expected"),
    [
        ("custom", "https://p.test/v1", "https://p.test/v1/models"),
        ("openrouter", "https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/models"),
        ("anthropic", "https://api.anthropic.com", "https://api.anthropic.com/v1/models"),
    ],
)
def test_the_list_of_models_stands_beside_the_calls(type_: str, base_url: str, expected: str) -> None:
    request = models_request(provider(type_, base_url), KEY, DIALECTS[type_])
    assert request is not None
    assert (request.method, request.url, request.body) == ("GET", expected, b"")
    assert any("sk-example-secret" in value for value in request.headers.values())


@pytest.mark.parametrize(("answer", "expected"), [(200, True), (401, True), (404, True), (500, False), ("gone", False)])
def test_a_provider_that_refuses_is_up_and_one_that_fails_is_not(answer: "int | str", expected: bool) -> None:
    assert is_up(answer) is expected


def _refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [(lambda request: httpx.Response(200, content=b"{}"), 200), (_refuse, "refused")],
)
async def test_asking_gives_a_status_or_a_reason(
    bench: "Bench", answers: "Callable[[httpx.Request], httpx.Response]", expected: "int | str"
) -> None:
    bench.upstream.on("p", answers)
    request = models_request(provider(), KEY, DIALECTS["custom"])
    assert request is not None
    found = await ask(HttpClient(bench.upstream), request, 1_000)
    assert found == expected or str(expected) in str(found)


def test_a_provider_that_its_probe_takes_out_gets_no_call_until_it_is_back() -> None:
    pool = Pool([provider()])
    assert [pool.probe("p", False) for _ in range(3)] == [False, False, True]
    assert pool.status(ROUTE, frozenset(), 10.0).readiness is Readiness.CLOSED
    assert pool.take(ROUTE, frozenset(), 10.0) is None
    assert pool.health(10.0)["p"]["probed_down"] is True
    pool.probe("p", True)
    pool.probe("p", True)
    assert pool.take(ROUTE, frozenset(), 10.0) is not None


@pytest.mark.parametrize(
    ("code", "pause_ms", "later"),
    [
        (FailureCode.PROVIDER_QUOTA, 7_200_000, Readiness.READY),
        (FailureCode.PROVIDER_QUOTA, 12, Readiness.NEVER),
        (FailureCode.PROVIDER_QUOTA, None, Readiness.NEVER),
        (FailureCode.PROVIDER_AUTH, 7_200_000, Readiness.NEVER),
    ],
)
def test_a_key_comes_back_for_everybody_only_when_its_quota_is_dated(
    code: FailureCode, pause_ms: int | None, later: Readiness
) -> None:
    pool = Pool([provider()])
    ticket = pool.take(ROUTE, frozenset(), 0.0)
    assert ticket is not None
    failure = AttemptFailure(code, Action.OTHER_KEY, "no", disable_key=True, retry_after_ms=pause_ms)
    assert pool.learn(ticket, failure, 0.0) is not None
    assert pool.health(1.0)["p"]["keys"]["a"]["disabled"] == code.value
    assert pool.take(ROUTE, frozenset(), 7_200_001.0) is not None
    assert pool.status(ROUTE, frozenset(), 7_200_001.0).readiness is later
