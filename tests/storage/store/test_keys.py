"""Content addresses: equal inputs share one, different inputs do not, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexscope.storage.store import keys
from indexscope.storage.store.json_types import canonical_json
from indexscope.storage.store.keys import check_name, step_key

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
INPUTS = st.dictionaries(st.text(), VALUES, max_size=4)


@given(INPUTS)
def test_order_of_settings_does_not_matter(inputs: dict[str, object]) -> None:
    turned = dict(reversed(inputs.items()))
    assert step_key("features", inputs) == step_key("features", turned)  # type: ignore[arg-type]


@given(INPUTS, INPUTS)
def test_keys_are_equal_exactly_when_inputs_are_written_alike(one: dict[str, object], two: dict[str, object]) -> None:
    alike = canonical_json(one) == canonical_json(two)  # type: ignore[arg-type]
    assert (step_key("features", one) == step_key("features", two)) == alike  # type: ignore[arg-type]


def test_a_tuple_counts_as_a_list() -> None:
    assert step_key("features", {"lengths": (1, 2)}) == step_key("features", {"lengths": [1, 2]})


def test_true_and_one_are_different_settings() -> None:
    assert step_key("features", {"packing": True}) != step_key("features", {"packing": 1})


def test_kind_and_schema_version_are_part_of_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    key = step_key("features", {"seed": 0})
    assert key.digest != step_key("models", {"seed": 0}).digest
    monkeypatch.setattr(keys, "SCHEMA_VERSION", keys.SCHEMA_VERSION + 1)
    assert key.digest != step_key("features", {"seed": 0}).digest


def test_a_digest_is_at_least_sixteen_hexadecimal_digits_and_stable() -> None:
    key = step_key("features", {"checkpoint": "abc", "chunk": 256})
    assert len(key.digest) >= 16
    assert int(key.digest, 16) >= 0
    # Written out, so that a change of the canonical form, which would lose every cache, cannot pass unseen.
    assert canonical_json({"ü": [1.0, None, False]}) == '{"\\u00fc":[1.0,null,false]}'


def test_later_changes_of_the_inputs_do_not_reach_the_key() -> None:
    inputs = {"lengths": [1, 2]}
    key = step_key("features", inputs)
    inputs["lengths"].append(3)
    assert key.inputs == {"lengths": [1, 2]}


@pytest.mark.parametrize("value", [Path("x"), np.float32(1), {1, 2}, b"x", object()])
def test_an_unhashable_setting_is_refused_by_name(value: object) -> None:
    with pytest.raises(TypeError, match=r"inputs\.extract\.thing"):
        step_key("features", {"extract": {"thing": value}})  # type: ignore[dict-item]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        step_key("features", {"threshold": value})


@pytest.mark.parametrize("name", ["", ".hidden", "..", "a/b", "_commits", "Shard", "a b", "a\\b", "é"])
def test_names_that_could_leave_their_folder_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unit"):
        check_name(name, "unit")
