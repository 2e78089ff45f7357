"""Where the processes of one dataflow listen: host:port of each, checked. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def check_place(
    index: int | None, addresses: Sequence[str], processes: int | None, lanes: int
) -> None:
    """Whether a process can be the `index`-th of `addresses` (None and none: it is in no list).

    Args: processes: how many there should be, if somebody said so. lanes: what they share.
    Raises: ValueError naming the settings at fault.

    >>> check_place(1, ["10.0.0.1:2101", "10.0.0.2:2101"], None, 64)
    """
    count = len(addresses)
    if (index is None) != (count == 0):
        raise ValueError(
            "HEADRACE_PROCESS_INDEX and HEADRACE_ADDRESSES go together: set both (a process of a "
            "cluster across hosts), or neither and HEADRACE_PROCESSES"
        )
    listed = f"HEADRACE_ADDRESSES={','.join(addresses)}"
    if not all(map(_is_address, addresses)):
        raise ValueError(f"{listed}: expected host:port,host:port,...")
    if len(set(addresses)) < count:
        raise ValueError(f"{listed}: an address is there twice")
    if index is not None and index >= count:
        raise ValueError(
            f"HEADRACE_PROCESS_INDEX={index}, but HEADRACE_ADDRESSES has {count}: expected 0 to "
            f"{count - 1}"
        )
    if count and processes is not None and processes != count:
        raise ValueError(f"HEADRACE_PROCESSES={processes}, but HEADRACE_ADDRESSES has {count}")
    if (most := max(processes or 1, count)) > lanes:
        raise ValueError(
            f"{most} processes for HEADRACE_LANES={lanes}: one without a lane would read nothing. "
            "Lower HEADRACE_PROCESSES"
        )


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65_536
