"""Choose how a feed's stream is read: by polling, or by enhanced fan-out if a consumer is named."""

from __future__ import annotations

from stream.settings import Settings
from stream.sources import StreamReader
from stream.sources.kinesis import KinesisReader
from stream.sources.kinesis_fan_out import FanOutReader


def open_reader(settings: Settings, feed: str) -> StreamReader:
    """The reader of a feed's stream. Cheap: the first call goes to the service."""
    stream, connections = settings.stream_name(feed), max(64, settings.lanes)
    if settings.enhanced_fan_out is None:
        return KinesisReader(stream, region=settings.region, connections=connections)
    return FanOutReader(
        stream, settings.enhanced_fan_out, region=settings.region, connections=connections
    )
