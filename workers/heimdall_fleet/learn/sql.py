"""DuckDB behind two typed calls. The only module with duckdb."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import duckdb

MEMORY_LIMIT = "64MiB"
"""Tables beyond it are in the database file, joins beyond it spill; below 48 MiB a join's own buffers do not fit."""

BATCH_ROWS = 4096


class OutOfMemory(Exception):
    """A join does not fit into the memory it may take."""

    exit_code = 1


class Engine:
    """A database file in `folder` for the length of a `with` block. Reads Parquet files by their paths.

    Both calls raise OutOfMemory.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "join.duckdb"
        self._file.unlink(missing_ok=True)
        self._connection: Any = duckdb.connect(
            str(self._file),
            config={
                "memory_limit": MEMORY_LIMIT,
                "temp_directory": str(folder / "spilled"),
                "preserve_insertion_order": False,
                "threads": 1,
                # What is on the right of a join is what it holds: never the rows with features and candidates.
                "disabled_optimizers": "join_order,build_side_probe_side",
                # Every file is read once or twice, and the database file lives for minutes.
                "enable_external_file_cache": False,
                "force_compression": "uncompressed",
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._file.unlink(missing_ok=True)

    def run(self, statement: str, values: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """Every row of the result."""
        with _explained():
            rows: list[tuple[Any, ...]] = self._connection.execute(statement, dict(values or {})).fetchall()
        return rows

    def table(self, query: str, values: Mapping[str, object]) -> Any:
        """The result as one Arrow table."""
        with _explained():
            return self._connection.sql(query, params=dict(values)).to_arrow_table()

    def batches(self, query: str, values: Mapping[str, object]) -> Iterator[Any]:
        """The result as Arrow record batches, one in memory at a time."""
        with _explained():
            yield from self._connection.sql(query, params=dict(values)).to_arrow_reader(BATCH_ROWS)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise OutOfMemory(
            f"joining the records needs more than the {MEMORY_LIMIT} it may take: replay fewer days at a time, or join "
            "them on a cluster (docs/audit-with-connect.md). What was read is kept, and no row is lost"
        ) from error


def files(paths: list[Path], *, numbered: bool = False) -> str:
    """The table function that reads these Parquet files. `numbered`: with the place of each row in its file."""
    listed = ", ".join(f"'{quoted(path)}'" for path in paths)
    number = ", file_row_number = true" if numbered else ""
    return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false{number})"


def quoted(text: Path | str) -> str:
    """As it stands between quotes in a statement."""
    return str(text).replace("'", "''")
