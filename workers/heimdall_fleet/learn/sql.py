"""DuckDB behind two typed calls. The only module with duckdb."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import duckdb

MEMORY_LIMIT = "192MiB"
"""What does not fit goes to a file in the work folder."""

BATCH_ROWS = 4096


class Engine:
    """A database for the length of a `with` block that reads Parquet files by their paths; `folder` is for spilling."""

    def __init__(self, folder: Path) -> None:
        self._connection: Any = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": MEMORY_LIMIT,
                "temp_directory": str(folder / "spilled"),
                "preserve_insertion_order": False,
                "threads": 1,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def run(self, statement: str, values: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """Every row of the result."""
        rows: list[tuple[Any, ...]] = self._connection.execute(statement, dict(values or {})).fetchall()
        return rows

    def batches(self, query: str, values: Mapping[str, object] | None = None) -> Iterator[Any]:
        """The result as Arrow record batches, one in memory at a time."""
        yield from self._connection.sql(query, params=dict(values or {})).to_arrow_reader(BATCH_ROWS)


def files(paths: list[Path]) -> str:
    """The table function that reads these Parquet files."""
    listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
