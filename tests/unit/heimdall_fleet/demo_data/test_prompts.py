import hashlib
from collections import Counter
from importlib import resources

import orjson
import pytest

from heimdall_fleet.demo_data import Prompt, expanded, prompts
from heimdall_schemas.codec import DEFAULT_LIMITS
from heimdall_schemas.request import AUTO, Request
from heimdall_schemas.topics import Bucket


@pytest.fixture(scope="module")
def every() -> list[Prompt]:
    return prompts()


@pytest.fixture(scope="module")
def requests(every: list[Prompt]) -> list[Request]:
    return [Request.model_validate(prompt.body) for prompt in every]


def test_there_are_some_150_prompts_of_every_bucket_with_ids_of_their_own(every: list[Prompt]) -> None:
    assert 140 <= len(every) <= 180
    assert len({prompt.id for prompt in every}) == len(every)
    assert min(Counter(prompt.expected for prompt in every).values()) >= 40
    assert {prompt.expected for prompt in every} == set(Bucket)


def test_every_prompt_asks_for_routing_and_is_written_once(requests: list[Request], every: list[Prompt]) -> None:
    assert {request.model for request in requests} == {AUTO}
    assert len({orjson.dumps(prompt.body) for prompt in every}) == len(every)


def test_tools_images_structured_output_and_sessions_are_among_them(requests: list[Request]) -> None:
    parts = [part for request in requests for message in request.messages for part in message.content or ()]
    assert sum(request.tools is not None for request in requests) >= 3
    assert sum(request.response_format is not None for request in requests) >= 4
    assert sum(request.heimdall.session is not None for request in requests) >= 5
    assert sum(getattr(part, "type", "") == "image_url" for part in parts) >= 2


def test_long_contexts_are_long_and_still_within_the_limit(every: list[Prompt]) -> None:
    sizes = sorted(len(orjson.dumps(prompt.body)) for prompt in every)
    assert sum(size > 30_000 for size in sizes) >= 8
    assert sizes[-1] < DEFAULT_LIMITS.max_body_bytes


def test_the_file_is_small() -> None:
    assert len(resources.files("heimdall_fleet.demo_data").joinpath("prompts.jsonl").read_bytes()) < 300_000


def test_a_rule_expands_to_the_same_text_on_every_machine(every: list[Prompt]) -> None:
    body = {
        "messages": [
            {
                "role": "user",
                "content": {"expand": ["<", {"repeat": "{n}{x} ", "times": 5, "choices": {"x": ["a", "b"]}}, ">"]},
            }
        ]
    }
    assert expanded(body)["messages"][0]["content"] == "<1b 2a 3a 4b 5a >"
    longest = max((str(prompt.body) for prompt in every), key=len)
    assert hashlib.sha256(longest.encode()).hexdigest()[:12] == "a894b65818c3"


def test_no_placeholder_is_left_in_an_expanded_text(every: list[Prompt]) -> None:
    for prompt in every:
        if prompt.id.startswith("long-"):
            assert "{n" not in prompt.body["messages"][-1]["content"]
