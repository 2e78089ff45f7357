"""Keep packs on disk, in order, while the stream cannot be reached.

Append-only segment files of frames (length, CRC-32, body) and a small position file that says how
far the stream acknowledged. Guarantees: what `append` took survives `kill -9` at once; a power
cut costs at most the last `fsync_seconds` (`sync_if_due` is called that often); order is kept;
the size is bounded, and a full spool refuses instead of dropping; a torn last frame, which
`append` never returned from, is cut off at the start. After a crash a few packs may be read
again: at least once. One process per folder, by a lock.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
from pathlib import Path
from zlib import crc32

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError
from stream.producers.pack import Pack

log = logging.getLogger(__name__)

_HEAD = struct.Struct(">II")
_BODY = struct.Struct(">HI")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Spool:
    """A bounded first-in first-out of packs in a folder.

    `max_bytes` counts the files on disk. Raises ConfigError when the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        segment_bytes: int = 16_000_000,
        fsync_seconds: float = 1.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max(1, max_bytes // 4))
        self._fsync_seconds = fsync_seconds
        self._clock = clock
        self._is_full = False
        self._is_dirty = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder)
            self._sizes = {int(path.stem): path.stat().st_size for path in folder.glob("*.spool")}
            self._head = self._load_position()
            self._tail = max([*self._sizes, self._head[0]])
            self._sizes.setdefault(self._tail, 0)
            self._cut_torn_tail()
            self._file = self._open_tail()
        except OSError as error:
            raise ConfigError(
                f"spool {folder}: {error.strerror or error}; the producer needs a writable folder "
                "for what it cannot publish"
            ) from error
        self._synced_at = clock.monotonic()
        self._read_to = self._head

    @property
    def is_empty(self) -> bool:
        """Whether everything appended was acknowledged."""
        return self._head == (self._tail, self._sizes[self._tail])

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return sum(self._sizes.values())

    @property
    def waiting_bytes(self) -> int:
        """Bytes not yet acknowledged."""
        return self.size_bytes - self._head[1]

    def append(self, pack: Pack) -> bool:
        """Write one pack; False if there is no room (said once per episode in an error line)."""
        frame = _encode(pack)
        if not self.is_empty and self.size_bytes + len(frame) > self.max_bytes:
            return self._refuse(f"its bound of {self.max_bytes} bytes is reached")
        try:
            if self._sizes[self._tail] >= self._segment_bytes:
                self._roll()
            self._write(frame)
            self.sync_if_due()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            return self._refuse(f"the disk has no room ({error.strerror})")
        self._is_full = False
        return True

    def read(self, max_bytes: int) -> list[Pack]:
        """Packs from the first one that is not acknowledged, at least one if there is any."""
        packs: list[Pack] = []
        segment, offset = self._head
        size = 0
        while size < max_bytes or not packs:
            data = self._segment(segment).read_bytes() if self._sizes.get(segment) else b""
            while offset < len(data) and (size < max_bytes or not packs):
                frame = _decode(data, offset)
                if frame is None:
                    self._set_aside(segment, offset, len(data))
                    offset = len(data)
                    break
                packs.append(frame[0])
                size += frame[1] - offset
                offset = frame[1]
            if offset < len(data) or segment >= self._tail:
                break
            segment, offset = segment + 1, 0
        self._read_to = (segment, offset)
        return packs

    def acknowledge(self) -> None:
        """Everything that the last `read` returned is stored: forget it, delete whole segments."""
        self._head = self._read_to
        self._save_position()
        for segment in [segment for segment in self._sizes if segment < self._head[0]]:
            self._segment(segment).unlink(missing_ok=True)
            del self._sizes[segment]
        if self.is_empty and self._head[1]:
            self._restart_tail()

    def sync_if_due(self) -> None:
        """Make durable what was written since the last time, at most every `fsync_seconds`."""
        now = self._clock.monotonic()
        if self._is_dirty and now - self._synced_at >= self._fsync_seconds:
            os.fsync(self._file)
            self._is_dirty, self._synced_at = False, now

    def close(self) -> None:
        """Make it durable and release the folder."""
        os.fsync(self._file)
        os.close(self._file)
        os.close(self._lock)

    def _refuse(self, why: str) -> bool:
        if not self._is_full:
            self._is_full = True
            log.error(
                "spool %s: %s; the source is held back until the stream takes records again",
                self.folder,
                why,
            )
        return False

    def _write(self, frame: bytes) -> None:
        """Append whole frames only: a part that a full disk left is cut off again."""
        before = self._sizes[self._tail]
        written = 0
        try:
            while written < len(frame):
                written += os.write(self._file, frame[written:])
        except OSError:
            os.ftruncate(self._file, before)
            raise
        self._sizes[self._tail] = before + len(frame)
        self._is_dirty = True

    def _roll(self) -> None:
        os.fsync(self._file)
        os.close(self._file)
        self._tail += 1
        self._sizes[self._tail] = 0
        self._file = self._open_tail()
        _fsync_folder(self.folder)

    def _restart_tail(self) -> None:
        """All is acknowledged: go on in a fresh segment, so that an idle spool takes no room."""
        used = self._tail
        self._roll()
        self._head = self._read_to = (self._tail, 0)
        self._save_position()
        self._segment(used).unlink(missing_ok=True)
        del self._sizes[used]

    def _open_tail(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.open(self._segment(self._tail), flags, 0o600)

    def _segment(self, number: int) -> Path:
        return self.folder / f"{number:012d}.spool"

    def _cut_torn_tail(self) -> None:
        path = self._segment(self._tail)
        data = path.read_bytes() if path.exists() else b""
        offset = 0
        while (frame := _decode(data, offset)) is not None:
            offset = frame[1]
        if offset < len(data):
            log.warning("spool %s: cut %d bytes of a torn write", path, len(data) - offset)
            os.truncate(path, offset)
            self._sizes[self._tail] = offset
        if self._head[0] == self._tail and self._head[1] > offset:
            self._head = (self._tail, offset)

    def _set_aside(self, segment: int, offset: int, end: int) -> None:
        """A damaged frame before the tail is not a torn write: keep it for a person, go on."""
        kept = self._segment(segment).with_suffix(".damaged")
        kept.write_bytes(self._segment(segment).read_bytes())
        log.error(
            "spool %s: bytes %d to %d are damaged and were NOT published; a copy is in %s",
            self._segment(segment),
            offset,
            end,
            kept,
        )

    def _load_position(self) -> tuple[int, int]:
        first = min(self._sizes, default=0)
        path = self.folder / "position"
        if not path.exists():
            return (first, 0)
        try:
            segment, offset = map(int, path.read_text().split())
        except ValueError:
            log.warning("spool %s: unreadable; starting over, some packs go out twice", path)
            return (first, 0)
        return max((first, 0), (segment, offset))

    def _save_position(self) -> None:
        fresh = self.folder / "position.new"
        fresh.write_text(f"{self._head[0]} {self._head[1]}\n")
        fresh.replace(self.folder / "position")


def _fsync_folder(folder: Path) -> None:
    """Make new names durable: fsync of a file does not cover its entry in the folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lock(folder: Path) -> int:
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ConfigError(
            f"spool {folder}: another producer uses it; stop that one or choose another folder"
        ) from None
    return handle


def _encode(pack: Pack) -> bytes:
    key = pack.key.encode()
    body = _BODY.pack(len(key), pack.messages) + key + pack.data
    return _HEAD.pack(len(body), crc32(body)) + body


def _decode(data: bytes, offset: int) -> tuple[Pack, int] | None:
    """The pack at an offset and where the next one begins; None if there is no whole one."""
    start = offset + _HEAD.size
    if start > len(data):
        return None
    length, check = _HEAD.unpack_from(data, offset)
    body = data[start : start + length]
    if length < _BODY.size or len(body) < length or crc32(body) != check:
        return None
    key_bytes, messages = _BODY.unpack_from(body)
    key = body[_BODY.size : _BODY.size + key_bytes].decode()
    return Pack(key, body[_BODY.size + key_bytes :], messages), start + length
