"""Read what S3 says of a new object, and judge it. Pure: no I/O, no clock, standard library only.

    body of an SQS message ─▶ EventBridge event "Object Created" ─▶ key ─▶ Landed
                                                              └──▶ Ignored (on purpose, counted)
                                                              └──▶ RecordRejected (poison)

Every message ends as one of these three. The form is EventBridge's, which the infrastructure uses:
its keys are plain text. S3's own notifications encode keys as in a URL, so they are refused rather
than guessed at. What a key means is read by the lake's layout alone.
Not here: rows (`lineage_table`), what happens to a batch (`lineage_batch`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self

from stream.clock import parse_time_ms, to_utc
from stream.errors import ConfigError, RecordRejected
from stream.lake.layout import BRONZE, BronzeKey, ExtractManifestKey, ExtractPartKey

Kind = Literal["slice", "part", "manifest"]

GRACE_MINUTES = 15
"""A commit follows its objects within seconds, a manifest within the minutes of an extract. What
nothing names after this long is worth a look."""

MAX_BODY_CHARS = 64_000
"""An event has about 1,000; no time is spent on more."""
MAX_KEY_BYTES = 1_024
"""S3's own limit; also keeps the row's key within DynamoDB's 2,048."""
MAX_OBJECT_BYTES = 50 * 1024**4
SHOWN = 120

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ETAG = re.compile(r"[0-9A-Za-z-]{1,128}")
_HEX = re.compile(r"[0-9A-Fa-f]{0,64}")
_VERSION = re.compile(r"[0-9A-Za-z._-]{0,1024}")
_SOURCE = re.compile(r"[a-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True, order=True)
class BronzeHour:
    """One source's folder of one UTC hour in Bronze: what a flow run looks through."""

    source: str
    hour: datetime

    @property
    def prefix(self) -> str:
        """The folder."""
        return BronzeKey.prefix(self.source, self.hour)

    def to_parameter(self) -> dict[str, str]:
        """As a parameter of a flow run."""
        return {"source": self.source, "hour": self.hour.isoformat()}

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read a parameter back. Raises: ConfigError; Prefect itself accepts any text here.

        >>> BronzeHour.parse({"source": "trades", "hour": "2026-11-23T09:00"}).prefix
        'bronze/source=trades/year=2026/month=11/day=23/hour=09/'
        """
        try:
            source, moment = raw["source"], to_utc(parse_time_ms(raw["hour"]) * 1_000_000)
            is_whole = not (moment.minute or moment.second or moment.microsecond)
            if set(raw) == {"source", "hour"} and _SOURCE.fullmatch(source) and is_whole:
                return cls(source, moment)
        except (KeyError, TypeError, ValueError, OverflowError):
            pass
        raise ConfigError(
            f"{_show(raw)} is no hour of Bronze: expected a source and the ISO time of a whole "
            'hour, e.g. {"source": "trades", "hour": "2026-11-23T09:00:00+00:00"}'
        )


@dataclass(frozen=True, slots=True)
class Landed:
    """One version of one object of Bronze.

    `event_ms`: when S3 took it, epoch ms. `place`: the hour that its key names; of a manifest,
    whose key names none, the hour in which it landed. `origin`: what else the key says (stream,
    shard, first; or run_id). `sequencer`: S3's own order of the versions of one key.
    """

    bucket: str
    key: str
    etag: str
    bytes: int
    event_ms: int
    kind: Kind
    place: BronzeHour
    origin: Mapping[str, str] = field(default_factory=dict, hash=False)
    sequencer: str = ""
    version_id: str = ""

    @property
    def object(self) -> str:
        """Bucket and key."""
        return f"{self.bucket}/{self.key}"

    @property
    def identity(self) -> tuple[str, str]:
        """What a row is about: the same twice is the same version, announced again."""
        return self.object, self.etag


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that is none of ours, on purpose. `reason` is a stable code."""

    reason: str


def parse_message(body: str, buckets: Collection[str] = ()) -> Landed | Ignored:
    """The object that a message announces.

    Args: buckets: those whose objects are expected; none means any.

    Raises: RecordRejected with a stable reason: no later attempt would read it.
    """
    event = _load(body)
    if event.get("Event") == "s3:TestEvent":
        return Ignored("test event")
    if event.get("Records") is not None:
        raise RecordRejected(
            "s3 notification",
            "its keys are URL-encoded; send the bucket's events through EventBridge",
        )
    if event.get("source") != "aws.s3":
        raise RecordRejected("not of s3", f"source {_show(event.get('source'))}")
    if event.get("detail-type") != "Object Created":
        return Ignored("not a new object")
    detail = _part(event, "detail")
    bucket, found = _part(detail, "bucket"), _part(detail, "object")
    key = _key(found)
    name = _text(bucket, "name", _BUCKET)
    if buckets and name not in buckets:
        raise RecordRejected("unknown bucket", f"{_show(name)}: expected {sorted(buckets)}")
    if not key.startswith(BRONZE):
        return Ignored("other zone")
    if key.endswith("/"):
        return Ignored("folder marker")
    event_ms = _time_ms(event)
    kind, place, origin = _read_key(key, event_ms)
    return Landed(
        bucket=name,
        key=key,
        etag=_text(found, "etag", _ETAG),
        bytes=_size(found),
        event_ms=event_ms,
        kind=kind,
        place=place,
        origin=origin,
        sequencer=_text(found, "sequencer", _HEX, default=""),
        version_id=_text(found, "version-id", _VERSION, default=""),
    )


def batch_key(landed: Iterable[Landed]) -> str:
    """The name of a batch: a function of the set of its object versions, not of their order.

    >>> batch_key([]) == batch_key([])
    True
    """
    names = json.dumps(sorted({item.identity for item in landed}))
    return hashlib.sha256(names.encode()).hexdigest()


def hours_of(landed: Iterable[Landed]) -> list[BronzeHour]:
    """The hours that hold these objects, each once, in order."""
    return sorted({item.place for item in landed})


def is_later(sequencer: str, other: str) -> bool:
    """Whether S3 gave a version of a key after another one: right-padded, then as text.

    >>> is_later("0055AED6", "0055AED6DCD9"), is_later("0066", "0055AED6")
    (False, True)
    """
    width = max(len(sequencer), len(other))
    return sequencer.upper().ljust(width, "0") > other.upper().ljust(width, "0")


def _load(body: str) -> dict[str, Any]:
    if len(body) > MAX_BODY_CHARS:
        raise RecordRejected("too long", f"{len(body):,} characters, at most {MAX_BODY_CHARS:,}")
    try:
        event = json.loads(body)
    except RecursionError:
        raise RecordRejected("not json", "nested too deeply") from None
    except ValueError as error:
        raise RecordRejected("not json", str(error)[:SHOWN]) from None
    if not isinstance(event, dict):
        raise RecordRejected("not an event", f"a JSON {type(event).__name__}")
    return event


def _part(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = parent.get(name)
    if not isinstance(found, dict):
        raise RecordRejected("not an event", f"{name} is {_show(found)}, expected an object")
    return found


def _text(
    parent: Mapping[str, Any], name: str, form: re.Pattern[str], default: str | None = None
) -> str:
    found = parent.get(name, default)
    if not isinstance(found, str) or not form.fullmatch(found.strip('"')):
        raise RecordRejected(name, f"{_show(found)}, expected text like {form.pattern}")
    return found.strip('"')


def _key(found: Mapping[str, Any]) -> str:
    key = found.get("key")
    if not isinstance(key, str) or not key:
        raise RecordRejected("key", f"{_show(key)}, expected text")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON may spell
        raise RecordRejected("key", f"{_show(key)} is no Unicode text") from None
    if size > MAX_KEY_BYTES:
        raise RecordRejected("key", f"{size:,} bytes, S3 allows {MAX_KEY_BYTES:,}: {_show(key)}")
    return key


def _size(found: Mapping[str, Any]) -> int:
    size = found.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_OBJECT_BYTES:
        raise RecordRejected("size", f"{_show(size)}, expected a number of bytes")
    return size


def _time_ms(event: Mapping[str, Any]) -> int:
    text = event.get("time")
    try:
        event_ms = parse_time_ms(text) if isinstance(text, str) else -1
    except (ValueError, OverflowError):
        event_ms = -1
    if event_ms < 0:
        raise RecordRejected("time", f"{_show(text)}, expected an ISO time since 1970")
    return event_ms


def _read_key(key: str, event_ms: int) -> tuple[Kind, BronzeHour, dict[str, str]]:
    """What an object of Bronze is. A stray is poison: nothing but the platform writes there."""
    for read in _READERS:
        try:
            return read(key, event_ms)
        except ValueError:
            continue
    raise RecordRejected("stray", f"{_show(key)} is in Bronze, and no key of the lake's layout")


def _read_slice(key: str, _event_ms: int) -> tuple[Kind, BronzeHour, dict[str, str]]:
    found = BronzeKey.parse(key)
    day = found.day
    hour = datetime(day.year, day.month, day.day, found.hour, tzinfo=UTC)
    shard = found.shard
    origin = {"stream": shard.stream, "shard": shard.shard, "first": found.first}
    return "slice", BronzeHour(shard.feed, hour), origin


def _read_part(key: str, _event_ms: int) -> tuple[Kind, BronzeHour, dict[str, str]]:
    found = ExtractPartKey.parse(key)
    return "part", _hour_of(found.source, found.extracted_ms), {"run_id": found.run_id}


def _read_manifest(key: str, event_ms: int) -> tuple[Kind, BronzeHour, dict[str, str]]:
    found = ExtractManifestKey.parse(key)
    return "manifest", _hour_of(found.source, event_ms), {"run_id": found.run_id}


_Reader = Callable[[str, int], tuple[Kind, BronzeHour, dict[str, str]]]
_READERS: tuple[_Reader, ...] = (_read_slice, _read_part, _read_manifest)


def _hour_of(source: str, moment_ms: int) -> BronzeHour:
    moment = to_utc(moment_ms * 1_000_000)
    into = timedelta(minutes=moment.minute, seconds=moment.second, microseconds=moment.microsecond)
    return BronzeHour(source, moment - into)


def _show(value: object) -> str:
    """A value from outside, for a message: short, in one line."""
    text = ascii(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
