"""Which manifests an append merges: those of one size, so that a file is rewritten rarely.

A commit writes one manifest for its files. The library packs manifests into bins of 8 MB and
merges a bin of 50: the one large manifest in it is written again every 50 commits, which at 800
files costs 5 ms of CPU per commit and at a day's 8,640 files 50. Here 50 manifests of a tier
become one of the next, as in a log-structured merge tree: each file is rewritten once per tier,
two or three times in all, however many there are.

Readers see up to 49 manifests per tier. Not here: taking files out (the library's overwrite).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from pyiceberg.manifest import ManifestContent, ManifestFile
from pyiceberg.table import Transaction
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _MergeAppendFiles


class TieredAppend(_MergeAppendFiles):
    """The library's append, with tiers. As many manifests of a tier are merged as the table's
    property `commit.manifest.min-count-to-merge` says.
    """

    def __init__(self, transaction: Transaction, summary: Mapping[str, str]) -> None:
        io = transaction._table.io  # noqa: SLF001 - as `Transaction.update_snapshot` does
        super().__init__(Operation.APPEND, transaction, io, snapshot_properties=dict(summary))

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        data = [m for m in manifests if m.content == ManifestContent.DATA]
        full = full_tier(data, self._min_count_to_merge) if self._merge_enabled else []
        if not full:
            return manifests
        manager = _ManifestMergeManager(self._target_size_bytes, 0, True, self)
        merged = manager._create_manifest(full[0].partition_spec_id, full)  # noqa: SLF001
        paths = {m.manifest_path for m in full}
        return [merged, *(m for m in manifests if m.manifest_path not in paths)]


def full_tier(manifests: Sequence[ManifestFile], count: int) -> list[ManifestFile]:
    """The manifests of the smallest tier that has at least `count`; none if there is no such."""
    tiers: dict[tuple[int, int], list[ManifestFile]] = defaultdict(list)
    for manifest in manifests:
        files = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
        tiers[tier(files, count), manifest.partition_spec_id].append(manifest)
    return next((tiers[at] for at in sorted(tiers) if len(tiers[at]) >= max(count, 2)), [])


def tier(files: int, base: int) -> int:
    """How often manifests were merged to hold so many files.

    >>> [tier(files, 50) for files in (0, 1, 49, 50, 2_499, 2_500)]
    [0, 0, 0, 1, 1, 2]
    """
    found = 0
    while files >= base > 1:
        files, found = files // base, found + 1
    return found
