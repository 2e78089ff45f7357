"""Land an extract in Bronze: parts as they came, the manifest last. No manifest, no extract.

A run that was interrupted is simply run again: its parts get new names (they carry the new
attempt's time), and only those that the manifest names count. Two attempts at once: the first
manifest wins, the other attempt adopts it. Parts without a manifest are removed by maintenance.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from batch.extracts import Extractor, ExtractRequest, Part
from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import ConfigError
from stream.feeds import load_feeds
from stream.lake.layout import ExtractPartKey
from stream.lake.store import Store, sha256
from stream.sources.extract import Manifest, PartRef, read_manifest

MAX_PARTS = 1_000_000


def land_extract(
    store: Store,
    extractor: Extractor,
    request: ExtractRequest,
    run_id: str,
    *,
    clock: Clock = SYSTEM_CLOCK,
    progress: Callable[[PartRef], None] = lambda _: None,
) -> Manifest:
    """Run an extract and return its manifest; the manifest that is there if it ran before.

    Raises: ConfigError (bad run id, no such data set, key refused), RetryableError (the source
    or the store did not answer). Nothing counts then.
    """
    check_names(extractor.source, run_id)
    feed = extractor.feed_of(request.dataset)
    known = read_manifest(store, extractor.source, run_id)
    if known is not None:
        return known
    extracted_ms = now_ms(clock)
    parts = []
    for number, part in enumerate(extractor.extract(request)):
        if number >= MAX_PARTS:
            raise ConfigError(
                f"extract {run_id}: more than {MAX_PARTS:,} parts; ask for fewer days at a time"
            )
        key = ExtractPartKey(extractor.source, run_id, extracted_ms, number, part.suffix)
        reference = _put_part(store, key, part, now_ms(clock))
        parts.append(reference)
        progress(reference)
    manifest = Manifest(
        source=extractor.source,
        dataset=request.dataset,
        feed=feed,
        run_id=run_id,
        extracted_ms=extracted_ms,
        first_day=request.first_day.isoformat() if request.first_day else None,
        last_day=request.last_day.isoformat() if request.last_day else None,
        parameters={"symbols": ",".join(request.symbols), **request.options},
        parts=tuple(parts),
        mapping=extractor.mapping_of(request.dataset),
    )
    if store.put_once(manifest.path, manifest.to_bytes()):
        return manifest
    winner = read_manifest(store, extractor.source, run_id)
    assert winner is not None
    return winner


def check_names(source: str, run_id: str) -> None:
    """Refuse names that would not make a key of their own. Raises: ConfigError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}", run_id):
        raise ConfigError(
            f"run id {run_id!r}: expected up to 120 letters, digits, '-', '_' and '.', beginning "
            "with a letter or digit"
        )
    if not re.fullmatch(r"[a-z][a-z0-9_]*", source) or source in load_feeds():
        raise ConfigError(
            f"source {source!r}: expected lower-case letters, digits and '_', and not the name "
            f"of a feed ({', '.join(load_feeds())}): a feed's Bronze holds its stream's slices"
        )


def _put_part(store: Store, key: ExtractPartKey, part: Part, received_ms: int) -> PartRef:
    if not store.put_once(key.path, part.data) and store.get(key.path) != part.data:
        raise ConfigError(
            f"{key.path} exists with other content: another attempt of run {key.run_id} began in "
            "the same millisecond. Start it again."
        )
    return PartRef(
        path=key.path,
        suffix=part.suffix,
        rows=part.rows,
        bytes=len(part.data),
        sha256=sha256(part.data),
        received_ms=received_ms,
        request=part.request,
        context=part.context,
    )
