"""Table metadata as what it is: a value that is never changed, under a name used once.

pyiceberg 0.12 reads a table's metadata file anew for every commit, the one that this process has
just written too, and deep-copies it three times, every retained snapshot with it: 0.18 ms of CPU
per snapshot and commit, 100 ms at 600 snapshots. Here copies share what nobody changes, and the
newest metadata of each table that was read or written is kept, with the text of its snapshots.

Guarantees: a file that another process wrote has another name, so it is read; what is kept is
equal to what its file holds. Memory: one metadata per table, which the table itself holds anyway.
"""

from __future__ import annotations

from typing import Any

from pyiceberg.io import InputFile, OutputFile
from pyiceberg.serializers import Compressor, FromInputFile, ToOutputFile
from pyiceberg.table.metadata import TableMetadata, TableMetadataV1, TableMetadataV2
from pyiceberg.table.snapshots import Snapshot

_read = FromInputFile.table_metadata
_SNAPSHOTS = '"snapshots":['
_newest: dict[str, tuple[str, TableMetadata]] = {}
"""By folder: address and content of the file that was read or written last."""
_texts: dict[str, dict[int, tuple[Snapshot, str]]] = {}
"""By folder and snapshot id: each retained snapshot as JSON."""


def share_metadata() -> None:
    """Make the library do so in this process. A second call changes nothing."""
    for kind in (TableMetadataV1, TableMetadataV2):
        kind.__deepcopy__ = _copy  # type: ignore[method-assign,assignment]
    FromInputFile.table_metadata = staticmethod(_read_once)  # type: ignore[method-assign]
    ToOutputFile.table_metadata = staticmethod(_write_and_keep)  # type: ignore[method-assign]


def forget_metadata() -> None:
    """Read every file anew from now on, for whoever changes files behind the catalog's back."""
    _newest.clear()
    _texts.clear()


def _read_once(input_file: InputFile, *arguments: Any, **named: Any) -> TableMetadata:
    address = input_file.location
    known = _newest.get(_folder(address))
    if known is not None and known[0] == address:
        return known[1]
    found = _read(input_file, *arguments, **named)
    _newest[_folder(address)] = address, found
    return found


def _write_and_keep(
    metadata: TableMetadata,
    output_file: OutputFile,
    overwrite: bool = False,  # noqa: FBT001, FBT002 - the library's own signature
) -> None:
    address = output_file.location
    data = _to_json(metadata, _folder(address)).encode()
    with output_file.create(overwrite=overwrite) as output:
        output.write(Compressor.get_compressor(location=address).bytes_compressor()(data))
    _newest[_folder(address)] = address, metadata


def _to_json(metadata: TableMetadata, folder: str) -> str:
    """As the library writes it, to the byte; a snapshot that was written before is not again."""
    known, texts = _texts.get(folder, {}), dict[int, tuple[Snapshot, str]]()
    for snapshot in metadata.snapshots:
        found = known.get(snapshot.snapshot_id)
        if found is None or found[0] is not snapshot:
            found = snapshot, snapshot.model_dump_json()
        texts[snapshot.snapshot_id] = found
    _texts[folder] = texts
    rest = metadata.model_copy(update={"snapshots": []}).model_dump_json()
    before, mark, after = rest.partition(_SNAPSHOTS)
    return before + mark + ",".join(text for _, text in texts.values()) + after


def _folder(address: str) -> str:
    return address.rpartition("/")[0]


def _copy(metadata: TableMetadata, _: Any = None) -> TableMetadata:
    """In place of a deep copy: every update of the library makes new lists and dictionaries."""
    return metadata.model_copy()
