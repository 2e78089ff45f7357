"""A table property that a writer relies on: its commits are refused once the table says otherwise.

The catalog compares it with the metadata that it is about to replace, so no race remains, and a
commit costs nothing more than a look-up in a dictionary.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import ValidatableTableRequirement


class AssertProperties(ValidatableTableRequirement):
    """The table's properties have these values; None: it has no such property."""

    type: str = "assert-properties"
    values: Mapping[str, str | None]

    def validate(  # type: ignore[override]  # as the library's own requirements
        self, base_metadata: TableMetadata | None
    ) -> None:
        found = base_metadata.properties if base_metadata is not None else {}
        for name, value in self.values.items():
            if found.get(name) != value:
                raise CommitFailedException(
                    f"property {name} is {found.get(name)}, this writer began with {value}"
                )
