"""The optional probe of a provider that costs nothing: its list of models, asked for every now and then."""

from heimdall_fleet.dispatch.settings import KeySettings, ProviderSettings
from heimdall_fleet.providers.dialect import AttemptError, Call, Dialect, Target, WireRequest
from heimdall_fleet.providers.http import CallLimits, HttpClient

_LISTED_BESIDE = ("/chat/completions", "/messages", "/responses")
_TALK = {"messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}
_SERVER_ERROR = 500


class Verdict:
    """Up or down, by answers in a row: `unhealthy` bad ones take a provider out, `healthy` good ones bring it back."""

    def __init__(self, unhealthy: int, healthy: int) -> None:
        self._needed = {False: unhealthy, True: healthy}
        self._against = 0
        self.down = False

    def told(self, good: bool) -> bool:
        """One more probe; true when it changed the verdict."""
        if good is not self.down:
            self._against = 0
            return False
        self._against += 1
        if self._against < self._needed[good]:
            return False
        self.down, self._against = not self.down, 0
        return True


def models_request(provider: ProviderSettings, key: KeySettings, dialect: Dialect) -> WireRequest | None:
    """The request for the list of models; None for a family that has no free one (signed calls, deployments).

    Worded by the family's own dialect, so that it is authorised as its calls are.
    """
    target = Target(
        provider=provider.name,
        type=provider.type,
        base_url=provider.base_url,
        model="ping",
        model_id="ping",
        extra_headers=provider.extra_headers,
        meta=provider.meta,
        max_output=1,
        facts={},
    )
    asked = dialect.to_wire(Call(_TALK, target, key.secret, {}, stream=False))
    url = _list_beside(asked.url)
    if url is None or "x-amz-date" in {name.lower() for name in asked.headers}:
        return None
    headers = {name: value for name, value in asked.headers.items() if name.lower() != "content-type"}
    return WireRequest("GET", url, headers, b"")


def _list_beside(url: str) -> str | None:
    for ending in _LISTED_BESIDE:
        if url.endswith(ending):
            return url.removesuffix(ending) + "/models"
    base, found, _ = url.partition("/models/ping")
    return f"{base}/models" if found else None


async def ask(client: HttpClient, request: WireRequest, timeout_ms: int) -> int | str:
    """The status of the answer, or why there is none."""
    limits = CallLimits(total_timeout_ms=timeout_ms, connect_timeout_ms=timeout_ms, idle_timeout_ms=timeout_ms)
    try:
        return (await client.post(request, limits)).status
    except AttemptError as error:
        return error.failure.message or error.failure.code.value


def is_up(answer: int | str) -> bool:
    """A provider that refuses the key or the question is there; one that fails or is silent is not."""
    return isinstance(answer, int) and answer < _SERVER_ERROR
