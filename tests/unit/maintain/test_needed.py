"""The newest word on a file counts, whatever older entries said of it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from batch.maintain.needed import Needed
from stream.lake.entries import Entry, ObjectRef, Redriven, Rewrite, SliceRecord
from stream.lake.history import current_slices
from stream.slices import ShardRef

SHARD = ShardRef("trades", "s.00000000", "shard-0")


def ref(path: str) -> ObjectRef:
    return ObjectRef(path, "", 0, 0)


def record(first: int, path: str, quarantine: str | None = None) -> SliceRecord:
    return SliceRecord(
        SHARD,
        *(None, str(first), str(first), 1, 1, (0, 0)),
        silver=(ref(path),),
        quarantine=ref(quarantine) if quarantine else None,
    )


def entry(number: int, kind: Any, **fields: Any) -> Entry:
    return Entry("trades", number, None, kind, number * 1_000, {}, **fields)


def needed_of(entries: list[Entry]) -> Needed:
    needed = Needed(len(entries))
    for item in reversed(entries):
        needed.add(item)
    return needed


def test_file_is_needed_until_a_rewrite_removes_it() -> None:
    landed = entry(1, "slices", slices=(record(1, "a"), record(2, "b")))
    assert needed_of([landed]).paths == {"a", "b"}
    rewrite = Rewrite(removed=("a", "b"), written=(ref("c"),))
    needed = needed_of([landed, entry(2, "compact", rewrites=(rewrite,))])
    assert needed.paths == {"c"}
    assert needed.removed_ms == {"a": 2_000, "b": 2_000}


def test_file_that_comes_back_is_needed_again() -> None:
    there = entry(1, "slices", slices=(record(1, "a"),))
    gone = entry(2, "replay", slices=(record(1, "b"),), rewrites=(Rewrite(("a",)),))
    back = entry(3, "replay", slices=(record(1, "a"),), rewrites=(Rewrite(("b",)),))
    needed = needed_of([there, gone, back])
    assert (needed.paths, needed.removed_ms) == ({"a"}, {"b": 3_000})


def test_file_of_a_replayed_slice_is_not_needed_even_if_nobody_removed_it() -> None:
    """A foreign commit took it out of the table, the replay brought the rows back."""
    there = entry(1, "slices", slices=(record(1, "a", "rejects-1"),))
    replayed = entry(2, "replay", slices=(record(1, "b", "rejects-2"),))
    assert needed_of([there, replayed]).paths == {"b", "rejects-1", "rejects-2"}


def test_redriven_file_is_needed_until_its_slice_is_replayed() -> None:
    there = entry(1, "slices", slices=(record(1, "a"),))
    slice_id = there.slices[0].slice_id
    landed = Redriven("rejects", slice_id, 1, 1, 0, silver=(ref("r"),))
    redriven = entry(2, "redrive", redriven=(landed,))
    assert needed_of([there, redriven]).paths == {"a", "r"}
    replayed = entry(3, "replay", slices=(record(1, "b"),))
    assert needed_of([there, redriven, replayed]).paths == {"b"}


def test_file_that_bars_have_not_read_is_needed_though_it_was_removed() -> None:
    entries = [
        entry(1, "slices", slices=(record(1, "a"),)),
        entry(2, "slices", slices=(record(2, "b"),)),
        entry(3, "compact", rewrites=(Rewrite(("a", "b"), (ref("c"),)),)),
    ]
    for followed, paths in ((3, {"c"}), (2, {"c"}), (1, {"b", "c"}), (0, {"a", "b", "c"})):
        needed = Needed(3, followed)
        for item in reversed(entries):
            needed.add(item)
        assert needed.paths == paths


PATHS = st.sampled_from("abcdef")
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["replay", "compact"]),
        st.integers(1, 3),
        st.sets(PATHS, max_size=3),
        PATHS,
    ),
    max_size=8,
)


@given(CHANGES)
def test_walking_back_agrees_with_what_is_true_now(changes: list[Any]) -> None:
    """The reference reads forwards: a file is needed if a current slice or a rewrite names it and
    it was not removed after it was last written.
    """
    first = tuple(record(n, path) for n, path in ((1, "x"), (2, "y"), (3, "z")))
    entries = [entry(1, "slices", slices=first)]
    for kind, slice_no, removed, path in changes:
        written = Rewrite(tuple(sorted(removed)), (ref(path),) if kind == "compact" else ())
        slices = (record(slice_no, path),) if kind == "replay" else ()
        entries.append(entry(len(entries) + 1, kind, slices=slices, rewrites=(written,)))

    last: dict[str, tuple[str, int]] = {}
    for item in entries:
        for rewrite in item.rewrites:
            last |= dict.fromkeys(rewrite.removed, ("removed", item.number))
            last |= {file.path: ("written", item.number) for file in rewrite.written}
        last |= {file.path: ("written", item.number) for r in item.slices for file in r.silver}
    named = {f.path for item in entries for r in item.rewrites for f in r.written}
    named |= {f.path for state in current_slices(entries).values() for f in state.silver}

    needed = needed_of(entries)
    assert {p for p in named if last[p][0] == "written"} == needed.paths
    assert {p for p, (word, _) in last.items() if word == "removed"} <= needed.removed_ms.keys()
    assert not needed.paths & needed.removed_ms.keys()
