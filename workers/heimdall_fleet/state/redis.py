"""The shared state on Redis or Valkey: every operation is one Lua script, so that it happens whole or not at all.

Leases run on the server's clock, because the workers' clocks may differ. The scripts are idempotent for the worker that
asks, so a time-out needs no answer; the caller decides what an outage means. Asked again is only what timed out because
this worker itself stood still: it must not take its own pause for the server's, and go on as if nobody else were there.

Keys, under a prefix:

    call:{call id}    hash: holder, until (ms), begun, stored, body (fingerprint); expires some time after lease or answer
    bucket:{name}     hash: level, at (ms)
    money:{name}      hash: used (micro-dollars, spent and held), and each hold by its name
"""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from heimdall_fleet.state.base import Budget, Claim, ClaimKind, StateUnavailable, Want

TIMEOUT_S = 0.5
MAX_CONNECTIONS = 32
_OWN_PAUSE = 1.5
"""A time-out that took so many times as long as it may is our own standing still."""
_TRIES = 3
_QUEUE = 4
"""Time-outs for which a command waits for a connection: behind our own others, while the server is well."""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# A dead worker's reservation is remembered for a while after its lease, so that a repeated call is known as one.
_CLAIM = (
    _NOW
    + """
local call = redis.call('HMGET', KEYS[1], 'holder', 'until', 'stored', 'body', 'begun')
if (call[1] or call[3]) and (call[4] or '') ~= ARGV[4] then return {'other_body', 0, '', ''} end
if call[3] then return {'done', 0, call[3], ''} end
if call[1] and call[1] ~= ARGV[1] and tonumber(call[2]) > now then
  return {'held', math.max(1, tonumber(call[2]) - now), '', ''}
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'until', now + ARGV[2])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'body', ARGV[4]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2] + ARGV[3])
local kind = (call[1] and call[1] ~= ARGV[1]) and 'repeated' or 'ours'
return {kind, 0, '', call[5] or ''}
"""
)
_REMEMBER_MS = 24 * 3_600_000

_BEGIN = (
    _NOW
    + """
local call = redis.call('HMGET', KEYS[1], 'holder', 'stored')
if call[2] or (call[1] and call[1] ~= ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'until', now + ARGV[2], 'begun', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[2] + ARGV[3])
return 1
"""
)

_RENEW = (
    _NOW
    + """
for i, key in ipairs(KEYS) do
  local call = redis.call('HMGET', key, 'holder', 'stored')
  if call[1] == ARGV[i + 1] and not call[2] then redis.call('HSET', key, 'until', now + ARGV[1]) end
end
return 0
"""
)
_RENEWED_AT_ONCE = 200

_FINISH = """
local call = redis.call('HMGET', KEYS[1], 'stored', 'body')
if call[1] then return call[1] end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'stored', ARGV[1], 'body', call[2] or '')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return ARGV[1]
"""

_RELEASE = """
local call = redis.call('HMGET', KEYS[1], 'holder', 'stored')
if call[1] == ARGV[1] and not call[2] then redis.call('DEL', KEYS[1]) end
return 0
"""

_TAKE = (
    _NOW
    + """
local levels, wait = {}, 0
for i, key in ipairs(KEYS) do
  local rate, burst, amount = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local bucket = redis.call('HMGET', key, 'level', 'at')
  local level = burst
  if bucket[1] then level = math.min(burst, bucket[1] + math.max(0, now - bucket[2]) * rate / 60000) end
  levels[i] = level
  local missing = math.min(amount, burst) - level
  if missing > 1e-9 then wait = math.max(wait, math.max(1, math.ceil(missing * 60000 / rate))) end
end
if wait > 0 then return wait end
for i, key in ipairs(KEYS) do
  local rate, burst, amount = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  redis.call('HSET', key, 'level', tostring(levels[i] - amount), 'at', now)
  redis.call('PEXPIRE', key, math.ceil((burst + amount) * 60000 / rate) + 60000)
end
return 0
"""
)

# A hold's field begins with "hold ", so that no name of one can be `used`.
_HOLD = """
local hold = 'hold ' .. ARGV[1]
if redis.call('HEXISTS', KEYS[1], hold) == 0 then
  local used = tonumber(redis.call('HGET', KEYS[1], 'used') or '0')
  if used + tonumber(ARGV[2]) > tonumber(ARGV[3]) then return 0 end
  redis.call('HSET', KEYS[1], hold, ARGV[2])
  redis.call('HINCRBY', KEYS[1], 'used', ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""

_SETTLE = """
local hold = 'hold ' .. ARGV[1]
local held = redis.call('HGET', KEYS[1], hold)
if not held then return 0 end
redis.call('HDEL', KEYS[1], hold)
redis.call('HINCRBY', KEYS[1], 'used', ARGV[2] - held)
return 0
"""


class RedisState:
    """`base.SharedState` over one Redis; `prefix` keeps fleets apart on one server."""

    def __init__(
        self,
        client: Redis,
        prefix: str = "heimdall:",
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._clock = clock
        self._prefix = prefix
        self._claim = client.register_script(_CLAIM)
        self._begin = client.register_script(_BEGIN)
        self._renew = client.register_script(_RENEW)
        self._finish = client.register_script(_FINISH)
        self._release = client.register_script(_RELEASE)
        self._take = client.register_script(_TAKE)
        self._hold = client.register_script(_HOLD)
        self._settle = client.register_script(_SETTLE)

    @classmethod
    def connect(cls, url: str, prefix: str = "heimdall:", timeout_s: float = TIMEOUT_S) -> "RedisState":
        """A state at `redis://`, `rediss://` or `unix://`; no connection is made before the first use."""
        pool = BlockingConnectionPool.from_url(
            url,
            timeout=_QUEUE * timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            max_connections=MAX_CONNECTIONS,
        )
        return cls(Redis.from_pool(pool), prefix, timeout_s)

    async def claim_call(self, call_id: str, holder: str, lease_ms: int, fingerprint: str = "") -> Claim:
        arguments = [holder, lease_ms, _REMEMBER_MS, fingerprint]
        kind, wait_ms, stored, begun = await self._run(self._claim, [f"call:{call_id}"], arguments)
        return Claim(ClaimKind(kind.decode()), int(wait_ms), stored, begun)

    async def begin_call(self, call_id: str, holder: str, begun: Callable[[], bytes], lease_ms: int) -> bool:
        return bool(await self._run(self._begin, [f"call:{call_id}"], [holder, lease_ms, _REMEMBER_MS, begun()]))

    async def renew_calls(self, holds: Sequence[tuple[str, str]], lease_ms: int) -> None:
        for start in range(0, len(holds), _RENEWED_AT_ONCE):
            part = holds[start : start + _RENEWED_AT_ONCE]
            await self._run(
                self._renew, [f"call:{call_id}" for call_id, _ in part], [lease_ms, *(holder for _, holder in part)]
            )

    async def finish_call(self, call_id: str, stored: bytes, keep_ms: int) -> bytes:
        kept: bytes = await self._run(self._finish, [f"call:{call_id}"], [stored, keep_ms])
        return kept

    async def release_call(self, call_id: str, holder: str) -> None:
        await self._run(self._release, [f"call:{call_id}"], [holder])

    async def take_tokens(self, wants: Sequence[Want]) -> int:
        amounts = [number for want in wants for number in (want.per_minute, want.burst, want.amount)]
        return int(await self._run(self._take, [f"bucket:{want.name}" for want in wants], amounts))

    async def hold_money(self, budget: Budget, hold: str, usd_micros: int) -> bool:
        arguments = [hold, usd_micros, budget.limit_usd_micros, budget.keep_ms]
        return bool(await self._run(self._hold, [f"money:{budget.name}"], arguments))

    async def settle_money(self, budget: Budget, hold: str, spent_usd_micros: int) -> None:
        await self._run(self._settle, [f"money:{budget.name}"], [hold, spent_usd_micros])

    async def ping(self) -> None:
        try:
            await self._client.ping()
        except (RedisError, OSError) as error:
            raise StateUnavailable(f"the shared state does not answer: {error}") from error

    async def close(self) -> None:
        await self._client.aclose()

    async def _run(self, script: Any, keys: Sequence[str], arguments: Sequence[object]) -> Any:
        for left in reversed(range(_TRIES)):
            started = self._clock()
            try:
                return await script(keys=[self._prefix + key for key in keys], args=arguments)
            except (RedisError, OSError, ValueError) as error:
                if left and self._clock() - started > _OWN_PAUSE * self._timeout_s:
                    continue
                raise StateUnavailable(f"the shared state does not answer: {type(error).__name__}: {error}") from error
        raise AssertionError("the last try returns or raises")
