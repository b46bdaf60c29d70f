"""A conversation that ends with the beginning of the answer: newer Claude models refuse it, wherever they are served."""

from collections.abc import Callable
from typing import Any

import pytest

from heimdall_fleet.providers.dialect import Action, AttemptError, Call
from heimdall_fleet.providers.registry import dialect_for

CallBuilder = Callable[..., Call]
BEGUN = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "It is"}]}
META = {"region": "eu-west-1", "project_id": "p"}


@pytest.mark.parametrize(
    ("family", "model", "facts"),
    [
        ("anthropic", "claude-sonnet-4-6", {}),
        ("anthropic", "claude-opus-5-5", {}),
        ("vertex", "claude-opus-5-5", {}),
        ("bedrock", "global.anthropic.claude-opus-5-5", {}),
        ("anthropic", "claude-3-5-sonnet-20241022", {"prefill": False}),
    ],
)
def test_where_it_is_refused_another_provider_is_asked(
    family: str, model: str, facts: dict[str, Any], call: CallBuilder
) -> None:
    with pytest.raises(AttemptError) as caught:
        dialect_for(family).to_wire(call(family, BEGUN, model=model, facts=facts, meta=META))
    assert (caught.value.failure.action, caught.value.failure.connection_only) == (Action.OTHER_PROVIDER, True)


@pytest.mark.parametrize(
    ("family", "model", "facts"),
    [
        ("anthropic", "claude-3-5-sonnet-20241022", {}),
        ("anthropic", "claude-haiku-4-5", {}),
        ("anthropic", "claude-opus-5-5", {"prefill": True}),
        ("bedrock", "amazon.nova-pro-v1:0", {}),
        ("gemini", "gemini-2.5-pro", {}),
    ],
)
def test_elsewhere_it_is_sent(family: str, model: str, facts: dict[str, Any], call: CallBuilder) -> None:
    assert b"It is" in dialect_for(family).to_wire(call(family, BEGUN, model=model, facts=facts, meta=META)).body
