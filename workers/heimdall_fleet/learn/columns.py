"""Rows to Arrow columns and Parquet files. The only module here with pyarrow."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from heimdall_fleet.learn import rewards
from heimdall_fleet.learn.records import FIELDS, Kind, Table
from heimdall_models.features import FEATURE_NAMES

Arrow: TypeAlias = Any
"""An Arrow table, batch, array or schema: pyarrow has no types of its own."""

BATCH_ROWS = 8_192
"""Rows that are read, joined and written at a time: as many as a staged file has, mostly."""

CLUSTER_TEMPERATURE = 0.1
"""Of the softmax over a row's nearest clusters, as heimdall_models.embed.nearest_clusters has it."""

_MOMENT = pa.timestamp("us", tz="UTC")
_KINDS: Mapping[Kind, Arrow] = {
    "text": pa.string(),
    "number": pa.float64(),
    "integer": pa.int64(),
    "flag": pa.bool_(),
    "moment": _MOMENT,
}
_FEATURES = pa.list_(pa.float32(), len(FEATURE_NAMES))
_PACKED = pa.binary(4 * len(FEATURE_NAMES))
_CLUSTERS = pa.list_(pa.struct([("id", pa.int32()), ("weight", pa.float32())]))
_CANDIDATES = pa.list_(
    pa.struct(
        [
            ("model", pa.string()),
            ("score", pa.float64()),
            ("quality", pa.float64()),
            ("cost", pa.float64()),
            ("cost_usd_micros", pa.int64()),
        ]
    )
)

ROWS = pa.schema(
    [
        ("request_id", pa.string()),
        ("time", _MOMENT),
        ("tenant", pa.string()),
        ("session", pa.string()),
        ("bucket", pa.string()),
        ("bucket_before_guardrails", pa.string()),
        ("decision_type", pa.string()),
        ("selected_model", pa.string()),
        ("served_model", pa.string()),
        ("served_provider", pa.string()),
        ("p_chosen", pa.float64()),
        ("p_served", pa.float64()),
        ("explored", pa.bool_()),
        ("alpha", pa.float64()),
        ("difficulty", pa.float64()),
        ("percentile", pa.float64()),
        ("candidates", _CANDIDATES),
        ("features", _FEATURES),
        ("feature_version", pa.string()),
        ("clusters", _CLUSTERS),
        ("state", pa.string()),
        ("failure", pa.string()),
        ("attempts", pa.int32()),
        ("cost_usd_micros", pa.int64()),
        ("latency_ms", pa.float64()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("finish_reason", pa.string()),
        ("reward", pa.float64()),
        ("reward_source", pa.string()),
        *((f"r_{name}", pa.float64()) for name in rewards.SIGNALS),
        ("label", pa.string()),
        ("experiment", pa.string()),
        ("bundle", pa.string()),
        ("catalogue", pa.string()),
        ("config", pa.string()),
        ("text", pa.string()),
        ("question", pa.string()),
        ("cached_from", pa.string()),
        ("across", pa.string()),
    ]
)
"""The data set. docs/learning.md says what each column means."""

_ONCE = frozenset({"request_id", "question", "text", "cached_from", "session"})
_AS_PARQUET: Mapping[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    # Dictionaries pay for names that come again and again; tried on numbers they double the time of a write.
    "use_dictionary": [
        *(field.name for field in ROWS if field.type == pa.string() and field.name not in _ONCE),
        "candidates.list.element.model",
    ],
}

SCHEMAS: Mapping[Table, Arrow] = {
    table: pa.schema([*((name, _KINDS[kind]) for name, kind in fields.items()), ("seq", pa.int64())])
    for table, fields in FIELDS.items()
}
DECISIONS = pa.schema([*SCHEMAS["decision"], ("packed", _PACKED), ("clusters", _CLUSTERS), ("candidates", _CANDIDATES)])
"""`packed`: a row's features as the bytes that they are read as; a list of numbers takes three times as long to write."""


class Built(NamedTuple):
    """A table, and the rows that could not be part of it with the reason."""

    table: Arrow
    refused: list[tuple[int, str]]


def build(table: Table, rows: Sequence[tuple[Any, ...]], seqs: Sequence[int]) -> Built:
    """Arrow columns of `rows`. One whose values have the wrong types is left out, by its place in `rows`."""
    make = _decisions if table == "decision" else _plain
    try:
        return Built(make(table, rows, seqs), [])
    except _WRONG:
        refused = [(at, why) for at, row in enumerate(rows) if (why := _why_refused(make, table, row))]
        bad = {at for at, _ in refused}
        kept = [at for at in range(len(rows)) if at not in bad]
        return Built(make(table, [rows[at] for at in kept], [seqs[at] for at in kept]), refused)


_WRONG = (pa.ArrowException, TypeError, ValueError, AttributeError, OverflowError)
Make = Callable[[Table, Sequence[tuple[Any, ...]], Sequence[int]], Arrow]


def _why_refused(make: Make, table: Table, row: tuple[Any, ...]) -> str | None:
    try:
        make(table, [row], [0])
    except _WRONG as error:
        return f"a value has the wrong type: {error}"
    return None


def _plain(table: Table, rows: Sequence[tuple[Any, ...]], seqs: Sequence[int]) -> Arrow:
    return pa.Table.from_arrays(_arrays(table, _turned(rows, len(FIELDS[table])), seqs), schema=SCHEMAS[table])


def _decisions(table: Table, rows: Sequence[tuple[Any, ...]], seqs: Sequence[int]) -> Arrow:
    width = len(FIELDS[table])
    turned = _turned(rows, width + 4)
    numeric, ids, similarities, candidates = turned[width:]
    wide = [pa.array(numeric, _PACKED), _clusters(ids, similarities), _candidates(candidates)]
    return pa.Table.from_arrays([*_arrays(table, turned[:width], seqs), *wide], schema=DECISIONS)


def _turned(rows: Sequence[tuple[Any, ...]], width: int) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True)) or [()] * width


def _arrays(table: Table, turned: Sequence[tuple[Any, ...]], seqs: Sequence[int]) -> list[Arrow]:
    kinds = FIELDS[table].values()
    return [
        *(pa.array(each, _KINDS[kind]) for each, kind in zip(turned, kinds, strict=True)),
        pa.array(seqs, pa.int64()),
    ]


def _offsets(rows: Sequence[Sequence[Any]]) -> Arrow:
    return pa.array(list(accumulate(map(len, rows), initial=0)), pa.int32())


def _clusters(ids: Sequence[Sequence[int]], similarities: Sequence[Sequence[float]]) -> Arrow:
    """Softmax of the similarities: the weights that the decision was scored with."""
    offsets = _offsets(ids)
    flat_ids = pa.array([each for row in ids for each in row], pa.int32())
    flat = np.array([each for row in similarities for each in row], np.float64)
    if len(flat) != len(flat_ids):
        raise ValueError("features.clusters and features.cluster_similarities have different lengths")
    weights = pa.array(_softmax(flat, np.diff(offsets.to_numpy())).astype(np.float32))
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays([flat_ids, weights], ["id", "weight"]))


def _softmax(flat: NDArray[np.float64], lengths: NDArray[np.int32]) -> NDArray[np.float64]:
    """By rows that lie one behind the other. Similarities lie in -1..1, so nothing overflows."""
    raised = np.exp((flat - 1.0) / CLUSTER_TEMPERATURE)
    row = np.repeat(np.arange(len(lengths)), lengths)
    return np.asarray(raised / np.bincount(row, weights=raised, minlength=len(lengths))[row])


def _candidates(rows: Sequence[Sequence[tuple[Any, ...]]]) -> Arrow:
    fields = list(_CANDIDATES.value_type)
    flat = list(zip(*chain.from_iterable(rows), strict=True)) or [()] * len(fields)
    arrays = [pa.array(column, field.type) for column, field in zip(flat, fields, strict=True)]
    return pa.ListArray.from_arrays(_offsets(rows), pa.StructArray.from_arrays(arrays, fields=fields))


def write(table: Arrow, file: Path) -> None:
    """A file that is read once and forgotten: not worth the time of compressing it."""
    pq.write_table(table, file, **{**_AS_PARQUET, "compression": "none", "compression_level": None})


def use_system_memory() -> None:
    """Tables from now on lie in the C library's memory: Arrow's own keeps much of what is free, for a time of its own."""
    pa.set_memory_pool(pa.system_memory_pool())


def together(tables: Sequence[Arrow]) -> Arrow:
    """Tables of one schema as one."""
    return pa.concat_tables(tables)


def first_seq(rows: Arrow) -> int:
    found: int = rows.column("seq")[0].as_py()
    return found


def by_day(rows: Arrow) -> dict[str, Arrow]:
    """Rows by the day, in UTC, of their time: slices, since a filter would copy all of their features."""
    days = pc.cast(rows.column("time"), pa.date32()).to_numpy()
    ends = [*(np.flatnonzero(days[1:] != days[:-1]) + 1), len(days)]
    found: dict[str, list[Arrow]] = {}
    for first, end in pairwise([0, *ends]):
        found.setdefault(str(days[first]), []).append(rows.slice(first, end - first))
    return {day: together(slices) for day, slices in found.items()}


def empty(table: Table, file: Path) -> None:
    """A file of that table with no rows, so that a query need not ask whether there is one."""
    write((DECISIONS if table == "decision" else SCHEMAS[table]).empty_table(), file)


def empty_rows(file: Path) -> None:
    write(ROWS.empty_table(), file)


def come(file: Path) -> Iterator[Arrow]:
    """Batches of decisions as they were staged, with their features as a list, in the order of their numbers, `seq`."""
    with pq.ParquetFile(file) as source:
        for batch in source.iter_batches(BATCH_ROWS, use_threads=False):
            yield pa.table(batch).append_column("features", _unpacked(batch.column("packed"))).drop_columns("packed")


def standing(file: Path, first: int) -> Iterator[Arrow]:
    """Batches of a day's rows, numbered from `first` in the order of the file."""
    with pq.ParquetFile(file) as source:
        for batch in source.iter_batches(BATCH_ROWS, use_threads=False):
            yield pa.table(batch).append_column("seq", pa.array(np.arange(first, first + batch.num_rows)))
            first += batch.num_rows


def span(rows: Arrow) -> tuple[int, int]:
    """The first and the last number."""
    seqs = rows.column("seq")
    return seqs[0].as_py(), seqs[-1].as_py()


def those(rows: Arrow, facts: Arrow) -> Arrow:
    """The row for each of `facts`, by number."""
    at = np.searchsorted(rows.column("seq").to_numpy(), facts.column("seq").to_numpy())
    return rows if len(at) == rows.num_rows and bool((np.diff(at) == 1).all()) else rows.take(pa.array(at))


_WIDE = ("features", "clusters", "candidates")


def lack_features(rows: Arrow) -> bool:
    return bool(rows.column("features").null_count)


def wanted_origins(rows: Arrow) -> list[str]:
    """The decisions that rows without features of their own were copied from."""
    bare = rows.filter(pc.is_null(rows.column("features")))
    found: list[str] = pc.unique(pc.drop_null(bare.column("cached_from"))).to_pylist()
    return found


def copied(rows: Arrow, origins: Arrow) -> Arrow:
    """Rows without features of their own, with those of the decision they were copied from, its clusters and candidates.

    All three are null where that is not known. An origin has either `features` or, as it came, `packed`.
    """
    lists, packed = origins.column("features").combine_chunks(), origins.column("packed").combine_chunks()
    there = origins.set_column(origins.schema.get_field_index("features"), "features", _features(lists, packed))
    count = rows.num_rows
    found = pc.index_in(rows.column("cached_from"), value_set=origins.column("request_id").combine_chunks())
    own = pc.is_valid(rows.column("features"))
    at = pc.if_else(own, pa.array(np.arange(count)), pc.add(pc.cast(found, pa.int64()), count))
    for name in _WIDE:
        place = rows.schema.get_field_index(name)
        kind = ROWS.field(name).type
        both = pa.chunked_array([*rows.column(name).cast(kind).chunks, *there.column(name).cast(kind).chunks], kind)
        rows = rows.set_column(place, name, both.combine_chunks().take(at))
    return rows


def undecided(facts: Arrow) -> Arrow:
    """Rows without a decision: its columns are null."""
    nothing = pa.table({field.name: pa.nulls(facts.num_rows, field.type) for field in ROWS})
    for name in ("request_id", "time"):
        nothing = nothing.set_column(nothing.schema.get_field_index(name), name, facts.column(name))
    return nothing


def finished(rows: Arrow, facts: Arrow, weights: Mapping[str, float]) -> Arrow:
    """Decisions and their facts as rows of the data set: feedback becomes signals, signals become the reward."""
    joined = {name: _whole(each.column(name)) for each in (rows, facts) for name in each.schema.names}
    for name in ("tenant", "bucket"):
        joined[name] = pc.coalesce(joined[name], joined[f"outcome_{name}"])
    labels, buckets = joined["label"].to_pylist(), joined["bucket"].to_pylist()
    joined["r_score"] = _mapped(rewards.score, joined["r_score"])
    joined["r_accepted"] = _mapped(rewards.accepted, joined["accepted"])
    joined["r_label"] = pa.array(map(rewards.label, labels, buckets), pa.float64())
    answered = pc.equal(joined["state"], "answered")
    joined["r_retry"] = _mapped(rewards.retry, pc.if_else(answered, joined["retried"], None))
    joined["r_followup"] = _mapped(rewards.followup, pc.if_else(answered, joined["followup"], None))
    signals = {name: _floats(joined[f"r_{name}"]) for name in rewards.SIGNALS}
    reward, source = rewards.combine(signals, weights)
    joined["reward"] = pa.array(reward, from_pandas=True)
    joined["reward_source"] = pa.array(source, pa.string())
    return pa.RecordBatch.from_arrays([joined[field.name].cast(field.type) for field in ROWS], schema=ROWS)


def _whole(column: Arrow) -> Arrow:
    """One array; Arrow would copy a single chunk, too."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def _mapped(signal: Callable[[Any], float | None], column: Arrow) -> Arrow:
    if column.null_count == len(column):
        return pa.nulls(len(column), pa.float64())
    return pa.array(map(signal, column.to_pylist()), pa.float64())


def _floats(column: Arrow) -> NDArray[np.float64]:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _features(lists: Arrow, packed: Arrow) -> Arrow:
    """One list for each row, of those in the data set from lists, of those that come from bytes; null without either."""
    return pc.if_else(lists.is_valid(), lists.cast(_FEATURES), _unpacked(packed.cast(_PACKED)))


def _unpacked(packed: Arrow) -> Arrow:
    """Bytes as lists of the numbers in them; null where there are none."""
    width = len(FEATURE_NAMES)
    numbers = pa.Array.from_buffers(
        pa.float32(), len(packed) * width, [None, packed.buffers()[1]], offset=packed.offset * width
    )
    return pa.FixedSizeListArray.from_arrays(numbers, type=_FEATURES, mask=packed.is_null())


def write_rows(batches: Iterable[Arrow], file: Path) -> int:
    """Write the data set's rows, one batch in memory at a time; how many there were."""
    count = 0
    with pq.ParquetWriter(file, ROWS, **_AS_PARQUET) as writer:
        for batch in batches:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def without(file: Path, out: Path, column: str, values: frozenset[str]) -> int:
    """Copy a Parquet file without the rows whose `column` is one of `values`; how many were left out."""
    source = pq.ParquetFile(file)
    wanted = pa.array(sorted(values), pa.string())
    dropped = 0
    with source, pq.ParquetWriter(out, source.schema_arrow, **_AS_PARQUET) as writer:
        for batch in source.iter_batches(BATCH_ROWS):
            keep = pc.invert(pc.is_in(batch.column(column), value_set=wanted))
            kept = batch.filter(keep)
            dropped += batch.num_rows - kept.num_rows
            writer.write_batch(kept)
    return dropped


def texts_where(file: Path, column: str, equals: tuple[str, str]) -> frozenset[str]:
    """Values of `column` in the rows where another column has a value: `equals` is (its name, the value)."""
    name, value = equals
    table = pq.read_table(file, columns=[column, name])
    return frozenset(table.filter(pc.equal(table.column(name), value)).column(column).to_pylist())
