"""What the tests of dialects share: a way to build a call."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from heimdall_fleet.providers.dialect import Call, Target

HELLO = ({"role": "user", "content": "hi"},)


def build_call(
    family: str = "openai",
    body: Mapping[str, Any] | None = None,
    *,
    stream: bool = False,
    settings: Mapping[str, Any] | None = None,
    secret: str = "sk-secret-of-the-call",
    **target: Any,
) -> Call:
    fields: dict[str, Any] = {
        "provider": family,
        "type": family,
        "base_url": "https://api.test/v1",
        "model": "name-there",
        "model_id": "author/name",
        "extra_headers": {},
        "meta": {},
        "max_output": None,
        "facts": {},
    }
    full_body = {"model": "auto", "messages": list(HELLO), **(body or {})}
    return Call(full_body, Target(**fields | target), secret, settings or {}, stream)


CallBuilder = Callable[..., Call]


@pytest.fixture
def call() -> CallBuilder:
    return build_call
