"""What a running dispatch worker takes up of a changed configuration."""

from pathlib import Path

import pytest

from heimdall_fleet.bootstrap.dispatch import dispatch_service, reconfigure_dispatch
from heimdall_fleet.config import Loaded, load
from heimdall_fleet.dispatch.service import DispatchService
from heimdall_fleet.observe.metrics import Metrics
from heimdall_schemas.order import Step

BEFORE = """
providers:
  one: {type: custom, base_url: 'http://one.internal/v1', keys: [{name: k, value: a-secret-of-one}]}
  two: {type: custom, base_url: 'http://two.internal/v1', network: {proxy: 'http://old.internal:1'}}
"""
AFTER = """
providers:
  one: {type: custom, base_url: 'http://one.internal/v1', keys: [{name: k, value: a-secret-of-one}],
        network: {timeout: 7s}, concurrency: 3, health_check: {enabled: true}}
  two: {type: custom, base_url: 'http://two.internal/v1', network: {proxy: 'http://new.internal:1'}}
  fresh: {type: custom, base_url: 'http://fresh.internal/v1', keys: [{name: main, value: a-secret-of-fresh}]}
models: {fresh/model: {price: {input: 1, output: 1}, context_window: 1000}}
dispatch: {max_attempts: 7, hedge_after: 2s, fallbacks: {one/model: [fresh/model]}}
"""

DEAR_AND_FAIR = ("claude-opus-5.5", "claude-haiku-5.5")


def configured(folder: Path, text: str) -> Loaded:
    (folder / "heimdall.yaml").write_text(text)
    return load(folder / "heimdall.yaml", {})


@pytest.fixture
async def service(tmp_path: Path) -> DispatchService:
    return dispatch_service(configured(tmp_path, BEFORE), Metrics("dispatch", "1"))


async def test_a_new_provider_can_be_asked_without_a_restart(service: DispatchService, tmp_path: Path) -> None:
    assert not service.worker.room.book.offers("fresh/model")
    reconfigure_dispatch(service, configured(tmp_path, AFTER))
    room = service.worker.room
    (offer,) = room.book.offers("fresh/model")
    assert offer.target.provider in room.clients
    assert [key.name for key in room.pool.provider("fresh").keys] == ["main"]


async def test_limits_chains_and_attempts_change_and_what_is_reached_alike_keeps_its_connections(
    service: DispatchService, tmp_path: Path
) -> None:
    before = service.worker.room
    reconfigure_dispatch(service, configured(tmp_path, AFTER))
    room = service.worker.room
    assert room.pool is before.pool
    assert room.pool.provider("one").limits.total_timeout_ms == 7_000
    assert room.pool.provider("one").settings.concurrency == 3
    assert room.clients["one"] is before.clients["one"]
    assert room.clients["two"] is not before.clients["two"]
    failover = room.settings.failover
    assert (failover.max_attempts, failover.fallbacks) == (7, {"one/model": ("fresh/model",)})
    assert room.settings.hedge_after_ms == 2_000


async def test_another_authority_needs_another_client(service: DispatchService, tmp_path: Path) -> None:
    before = service.worker.room
    own = BEFORE.replace("k, value: a-secret-of-one}]", "k, value: a-secret-of-one}], network: {ca_file: /run/ca.pem}")
    reconfigure_dispatch(service, configured(tmp_path, own))
    room = service.worker.room
    assert room.clients["one"] is not before.clients["one"]
    assert room.clients["two"] is before.clients["two"]


async def test_a_provider_that_is_gone_is_shown_no_more(service: DispatchService, tmp_path: Path) -> None:
    reconfigure_dispatch(service, configured(tmp_path, AFTER))
    reconfigure_dispatch(service, configured(tmp_path, BEFORE))
    assert set(service.worker.room.pool.health(0.0)) == {"one", "two"}
    assert "fresh" in service.worker.room.pool, "orders on their way to it must still find it"


async def test_a_link_of_a_chain_is_the_model_that_its_name_means_at_that_provider(tmp_path: Path) -> None:
    chains = """
providers:
  backup: {type: anthropic, keys: [{name: a, value: a-secret-of-backup}]}
  mine: {type: custom, base_url: 'http://mine.internal/v1'}
dispatch: {fallbacks: {gpt-4o: [backup/claude-3-5-sonnet-20241022, mine/gpt-4o]}}
"""
    book = dispatch_service(configured(tmp_path, chains), Metrics("dispatch", "1")).worker.room.book
    (backup,) = book.named("backup/claude-3-5-sonnet-20241022")
    assert (backup.target.model, backup.target.model_id) == (
        "claude-3-5-sonnet-20241022",
        "anthropic/claude-3.5-sonnet",
    )
    assert backup.price is not None
    assert backup.context_window == 200_000
    (mine,) = book.named("mine/gpt-4o")
    assert (mine.target.model_id, mine.price) == ("mine/gpt-4o", None)


@pytest.mark.parametrize("first", ["anthropic/claude-3.5-sonnet", "claude-3-5-sonnet-20241022", "Claude-3.5-Sonnet"])
async def test_a_chain_begins_with_a_model_in_any_spelling(tmp_path: Path, first: str) -> None:
    text = f"""
providers:
  anthropic: {{type: anthropic, keys: [{{name: a, value: a-secret-of-anthropic}}]}}
  openai: {{type: openai, keys: [{{name: a, value: a-secret-of-openai}}]}}
dispatch: {{fallbacks: {{{first}: [openai/gpt-4o]}}}}
"""
    room = dispatch_service(configured(tmp_path, text), Metrics("dispatch", "1")).worker.room
    routes = room.book.routes((Step("anthropic/claude-3.5-sonnet", "mid"),), room.settings.failover.fallbacks)
    assert [route.target.model_id for route in routes] == ["anthropic/claude-3.5-sonnet", "openai/gpt-4o"]


async def test_openrouter_is_never_asked_for_a_model_above_its_dearest_price(tmp_path: Path) -> None:
    text = """
providers:
  anthropic: {type: anthropic, keys: [{name: a, value: a-secret-of-anthropic}]}
  openrouter: {type: openrouter, keys: [{name: a, value: a-secret-of-openrouter}]}
router: {openrouter: {provider: {max_price: 10}}}
"""
    book = dispatch_service(configured(tmp_path, text), Metrics("dispatch", "1")).worker.room.book
    dear, fair = ([offer.target.provider for offer in book.offers(f"anthropic/{name}")] for name in DEAR_AND_FAIR)
    assert (dear, fair) == (["anthropic"], ["anthropic", "openrouter"])
    assert [len(book.named(f"openrouter/anthropic/{name}")) for name in DEAR_AND_FAIR] == [0, 1]


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("openai/gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("gpt-4o", "gpt-4o"),
        ("auto", "gpt-4o"),
        (None, "gpt-4o"),
    ],
)
async def test_who_asks_for_a_snapshot_gets_it_and_no_other(tmp_path: Path, asked: str | None, there: str) -> None:
    text = "providers: {openai: {type: openai, keys: [{name: a, value: a-secret-of-openai}]}}"
    (offer,) = dispatch_service(configured(tmp_path, text), Metrics("dispatch", "1")).worker.room.book.offers(
        "openai/gpt-4o"
    )
    assert offer.target.as_asked(asked).model == there


@pytest.mark.parametrize(
    "text",
    [
        "providers: {openai: {type: openai, models: [gpt-4o], keys: [{name: a, value: a-secret-of-openai}]}}",
        "providers: {openai: {type: openai, keys: [{name: a, value: a-secret-of-openai}]}}\n"
        "models: {openai/gpt-4o: {providers: [{provider: openai, model: gpt-4o}]}}",
    ],
    ids=["the list of the provider's models", "the model's own entry"],
)
async def test_a_configuration_that_names_the_model_there_goes_before_a_snapshot(tmp_path: Path, text: str) -> None:
    (offer,) = dispatch_service(configured(tmp_path, text), Metrics("dispatch", "1")).worker.room.book.offers(
        "openai/gpt-4o"
    )
    assert offer.target.as_asked("gpt-4o-2024-08-06").model == "gpt-4o"
