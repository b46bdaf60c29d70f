"""A tenant's erasure: its rows leave the data set, and later replays do not bring them back."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from heimdall_fleet.learn import columns, rewards
from heimdall_fleet.learn.dataset import Layout, lines_of, read_manifest, read_position, write_json
from heimdall_fleet.learn.settle import survey


def erase(root: Path, tenant: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> dict[str, Any]:
    """Remove the rows of `tenant`, feedback on its requests and its records that were set aside; the manifest says so.

    Records of the tenant up to now are refused by every later replay into this data set, since the topic may still have
    them. Returns what was removed. Raises DatasetError. Done again, it goes on where a crash stopped it.
    """
    layout = Layout(root)
    layout.make()
    manifest, moment = read_manifest(layout), now()
    record = {"tenant": tenant, "at": moment.isoformat(timespec="seconds"), "until_us": round(moment.timestamp() * 1e6)}
    erasures = [*manifest.get("erasures", []), record]
    # First the promise, so that a replay after a crash here takes nothing in again.
    write_json(layout.manifest, {**manifest, "erasures": erasures}) if manifest else None
    waiting = [layout.incoming / name for name in read_position(layout).incoming]
    files = [*layout.days().values(), *(path for path in waiting if not path.name.startswith("feedback"))]
    said = [path for path in (layout.feedback, *waiting) if path.exists() and path.name.startswith("feedback")]
    requests = frozenset().union(*(columns.texts_where(file, "request_id", ("tenant", tenant)) for file in files))
    record["feedback"] = sum(_without(layout, file, "request_id", requests) for file in said)
    record["set_aside"] = _clean_set_aside(layout, tenant, requests)
    record["rows"] = sum(_without(layout, file, "tenant", frozenset({tenant})) for file in files)
    if layout.shadows.exists():
        record["shadows"] = _without(layout, layout.shadows, "tenant", frozenset({tenant}))
    write_json(layout.manifest, {**manifest, **survey(layout, rewards.SIGNALS), "erasures": erasures})
    return record


def _without(layout: Layout, file: Path, column: str, values: frozenset[str]) -> int:
    """Rewrite a file whole, or leave it untouched when nothing of it goes."""
    fresh = layout.work / "kept.parquet"
    dropped = columns.without(file, fresh, column, values)
    if dropped:
        fresh.replace(file)
    else:
        fresh.unlink()
    return dropped


def _clean_set_aside(layout: Layout, tenant: str, requests: frozenset[str]) -> int:
    """Lines that name the tenant or one of its requests go. One that no longer is JSON goes when it holds the name."""
    kept, dropped = [], 0
    for line in lines_of(layout.set_aside):
        if _is_of(orjson.loads(line)["value"] or "", tenant, requests):
            dropped += 1
        else:
            kept.append(line)
    if dropped:
        fresh = layout.work / "kept.jsonl"
        fresh.write_bytes(b"".join(kept))
        fresh.replace(layout.set_aside)
    return dropped


def _is_of(value: str, tenant: str, requests: frozenset[str]) -> bool:
    try:
        record = orjson.loads(value)
    except orjson.JSONDecodeError:
        return tenant in value
    return isinstance(record, dict) and (record.get("tenant") == tenant or record.get("request_id") in requests)
