"""An answer of the API as one Arrow table, and what it is the answer of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from stream.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of one query. `arrow`: all of them, in the API's order; decimals stay decimals.

    `as_of`: the table, its snapshot and the time of that commit: the same question about the same
    snapshot gives the same rows. Anything that takes Arrow data takes an answer as it is, such as
    `polars.DataFrame(answer)` or `duckdb.sql("SELECT * FROM answer")`.
    """

    arrow: pa.Table
    as_of: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.arrow.__arrow_c_stream__(requested_schema)

    def to_pandas(self) -> pd.DataFrame:
        """A pandas frame. Decimals are `decimal.Decimal`, not floats: convert what you must."""
        return self.arrow.to_pandas()

    def to_polars(self) -> pl.DataFrame:
        """A Polars frame. Raises: ConfigError when Polars is not installed."""
        try:
            import polars as pl  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise ConfigError("to_polars needs Polars: `pip install polars`.") from error
        frame = pl.from_arrow(self.arrow)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def to_pylist(self) -> list[dict[str, Any]]:
        """One dict per row: for a handful of rows."""
        rows: list[dict[str, Any]] = self.arrow.to_pylist()
        return rows
