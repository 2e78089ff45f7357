"""A set of hashes equals Python's, however the hashes come, even if they were made to collide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.keyhash import KeySet

HASHES = st.one_of(
    st.integers(0, 40),
    st.integers(0, 40).map(lambda low: 2**64 - 1 - low),
    st.integers(0, 2**64 - 1),
)
BATCHES = st.lists(st.tuples(st.lists(HASHES, max_size=30), st.integers(1, 40)), max_size=6)


def first_places(seen: set[int], hashes: list[int]) -> list[bool]:
    """Which hashes are new, each only at its first place; `seen` takes them in."""
    fresh = []
    for value in hashes:
        fresh.append(value not in seen)
        seen.add(value)
    return fresh


def check(batches: list[list[int]], frozen_after: set[int]) -> KeySet:
    keys, seen = KeySet(), set[int]()
    for number, hashes in enumerate(batches):
        found = keys.add(np.array(hashes, np.uint64))
        assert found.tolist() == first_places(seen, hashes)
        if number in frozen_after:
            keys.freeze()
        assert len(keys) == len(seen)
        assert keys.contents().tolist() == sorted(seen)
    return keys


@settings(max_examples=50, deadline=None)
@given(BATCHES, st.sets(st.integers(0, 5)))
def test_key_set_equals_a_set_of_python(
    batches: list[tuple[list[int], int]], frozen_after: set[int]
) -> None:
    # Repeats, moved a little, make a batch of a few hundred out of thirty.
    check(
        [[(h + 3 * k) % 2**64 for k in range(times) for h in few] for few, times in batches],
        frozen_after,
    )


@pytest.mark.parametrize("frozen_after", [set(), {0}, {1}])
def test_key_set_of_hashes_made_to_collide_is_right_and_quick(frozen_after: set[int]) -> None:
    crowd = list(range(1, 3000))
    check([crowd, [*crowd, *range(5000, 9000)], [0, *crowd]], frozen_after)


def test_key_set_that_crowds_as_it_grows_knows_what_it_moved() -> None:
    crowd = [k << 40 for k in range(300)]  # apart in a small table, in one place of a large one
    spread = [k << 55 for k in range(1, 500)]
    check([spread, crowd, [*crowd, *range(2**63, 2**63 + 5000)], [*spread, *crowd]], set())


def test_key_set_grows_past_a_slice() -> None:
    numbers = np.random.default_rng(7).integers(0, 2**63, 40_000).astype(np.uint64)
    batches = np.array_split(np.concatenate([numbers, numbers[::7]]), 4)
    keys = KeySet()
    assert sum(int(keys.add(batch).sum()) for batch in batches) == len(np.unique(numbers))
    assert (keys.contents() == np.unique(numbers)).all()
