"""Names that count up: the same names as were given, whatever they are, and few runs where they count."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indexscope.storage.store.names import Names, counted

STEMS = st.sampled_from(["shard-", "a", "", "x9-"])
NUMBERED = st.builds("{}{:0{}}".format, STEMS, st.integers(0, 1200), st.integers(1, 5))
RUN = st.builds(
    lambda stem, start, count, width: [f"{stem}{number:0{width}}" for number in range(start, start + count)],
    st.sampled_from(["shard-", "part"]),
    st.integers(0, 1200),
    st.integers(1, 40),
    st.integers(1, 5),
)
LISTS = st.lists(st.one_of(RUN, st.lists(st.one_of(NUMBERED, st.text(max_size=4)), max_size=3)), max_size=4).map(
    lambda parts: [name for part in parts for name in part]
)


@given(LISTS)
@example(["shard-09", "shard-10", "shard-99", "shard-100", "shard-0100"])
def test_runs_give_back_the_names_that_they_were_found_in(names: list[str]) -> None:
    found = Names.of(names)
    assert list(found) == names and len(found) == len(names)
    assert found == names and found == tuple(names) and names == found
    assert [found[place] for place in range(len(names))] == names
    assert [found[place - len(names)] for place in range(len(names))] == names
    assert list(found[1:5]) == names[1:5]
    assert Names(found.runs) == found and hash(Names(found.runs)) == hash(found)
    assert found != [*names, "one more"] and (not names or found != [*names[:-1], f"{names[-1]}x"])


def test_a_million_shards_are_one_run() -> None:
    names = Names.of(f"shard-{number:05d}" for number in range(1_000_000))
    assert names.runs == (("shard-00000", 1_000_000),)
    assert (names[99_999], names[100_000], names[-1]) == ("shard-99999", "shard-100000", "shard-999999")
    with pytest.raises(IndexError):
        names[1_000_000]


@pytest.mark.parametrize("runs", [[("result", 2)], [("shard-1", 0)]])
def test_runs_that_cannot_be_are_refused(runs: list[tuple[str, int]]) -> None:
    with pytest.raises(ValueError, match=r"number|times"):
        Names(runs)


def test_names_are_ordered_as_they_count() -> None:
    names = [f"shard-{number:05d}" for number in (0, 99_999, 100_000, 100_001, 999_999)]
    assert sorted(reversed(names), key=counted) == names
    assert sorted(names) != names
