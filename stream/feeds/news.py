"""News stories of all sources in one row shape.

Accepts our canonical JSON, FMP's `news/stock` items and RSS-like items. FMP's `publishedDate` has
no zone; it is taken as UTC, an assumption, which is why an event may lie a day after its arrival
before it is refused. Every copy of a story is kept; grouping near-duplicates is not done here.
"""

from __future__ import annotations

import pyarrow as pa

from stream.feeds.contract import (
    Column,
    Contract,
    Field,
    Pii,
    RejectLimit,
    Shape,
    VolumeBounds,
)

_TEXT = {"empty": True}

_CANONICAL = Shape(
    "canonical",
    where={"source": None, "ts_published_ns": None},
    fields={
        "source": Field("source", "text"),
        "story_id": Field("story_id", "text"),
        "url": Field("url", "text", optional=True),
        "title": Field("title", "text"),
        "text": Field("text", "text", _TEXT, default=""),
        "publisher": Field("publisher", "text", optional=True),
        "symbols": Field("symbols", "symbol", _TEXT, default=""),
        "ts_published_ns": Field("ts_published_ns", "epoch_ns"),
        "language": Field("language", "text", optional=True),
    },
)

_FMP = Shape(
    "fmp_stock_news",
    where={"publishedDate": None, "url": None},
    fields={
        "source": Field("", "const", {"value": "fmp"}),
        "story_id": Field("url", "text"),
        "url": Field("url", "text"),
        "title": Field("title", "text"),
        "text": Field("text", "text", _TEXT, default=""),
        "publisher": Field("publisher", "text", optional=True),
        "symbols": Field("symbol", "symbol", _TEXT, default=""),
        "ts_published_ns": Field("publishedDate", "date_time_assumed_utc"),
        "language": Field("language", "text", optional=True),
    },
)

_RSS = Shape(
    "rss_item",
    where={"guid": None, "pubDate": None},
    fields={
        "source": Field("source", "text", default="rss"),
        "story_id": Field("guid", "text"),
        "url": Field("link", "text", optional=True),
        "title": Field("title", "text"),
        "text": Field("description", "text", _TEXT, default=""),
        "publisher": Field("author", "text", optional=True),
        "symbols": Field("category", "symbol", _TEXT, default=""),
        "ts_published_ns": Field("pubDate", "rfc822_time"),
        "language": Field("language", "text", optional=True),
    },
)

CONTRACT = Contract(
    feed="news",
    doc="News: one row per story, source and set of symbols, as the source said it",
    columns=(
        Column("source", pa.string(), "Who delivered it", encode=True),
        Column("story_id", pa.string(), "The source's id: guid, or the URL where it gives none"),
        Column("url", pa.string(), "Where the story can be read", nullable=True),
        Column("title", pa.string(), "Headline"),
        Column("text", pa.string(), "Body or summary; may be empty"),
        Column(
            "publisher",
            pa.string(),
            "Who wrote it",
            nullable=True,
            encode=True,
            pii=Pii("hash", "RSS names the author, a person"),
        ),
        Column(
            "symbols", pa.string(), "Instruments named, upper case, comma separated", encode=True
        ),
        Column(
            "ts_published_ns", pa.int64(), "When the source says it appeared, ns since 1970 UTC"
        ),
        Column("language", pa.string(), "Language code, if given", nullable=True, encode=True),
    ),
    key=("source", "story_id", "symbols"),
    order=("symbols", "ts_published_ns", "source", "story_id"),
    event_time="ts_published_ns",
    freshness_seconds=60,
    volume=VolumeBounds(
        min_per_minute=0,
        max_per_minute=60_000,
        reason="nights and week-ends are silent; 1,000 stories a second is no newsroom",
    ),
    rejects=RejectLimit(share=0.5, over_rows=500, run=200),
    shapes=(_CANONICAL, _FMP, _RSS),
    dedup_minutes=2_880,
    future_tolerance_ms=86_400_000,
    max_line_bytes=524_288,
)
