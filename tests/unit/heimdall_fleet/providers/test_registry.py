"""What holds for every dialect."""

from collections.abc import Callable

import pytest

from heimdall_fleet.providers.dialect import Call
from heimdall_fleet.providers.registry import DIALECTS, dialect_for

CallBuilder = Callable[..., Call]


@pytest.mark.parametrize("family", sorted(DIALECTS))
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_carries_the_id_of_its_order(call: CallBuilder, family: str, stream: bool) -> None:
    asked = call(family, stream=stream)._replace(request_id="request-1")
    assert dialect_for(family).to_wire(asked).request_id == "request-1"
