"""Steps come after what they take; what cannot be put in an order is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.core.errors import ProjectError
from treadle.pipelines.graph import Step, ordered


def step(name: str, *inputs: str) -> Step:
    return Step(name, lambda **results: None, {f"i{n}": source for n, source in enumerate(inputs)})


@given(st.permutations(list(range(8))), st.data())
def test_every_step_comes_after_its_inputs(order: list[int], data: st.DataObject) -> None:
    steps = [step(f"s{i}", *(f"s{j}" for j in range(i) if data.draw(st.booleans()))) for i in range(8)]
    found = ordered([steps[i] for i in order])
    place = {s.name: i for i, s in enumerate(found)}
    assert sorted(place) == sorted(s.name for s in steps)
    assert all(place[source] < place[s.name] for s in steps for source in s.inputs.values())


def test_a_cycle_is_told_step_by_step() -> None:
    with pytest.raises(ProjectError, match="The steps form a cycle: b -> c -> b"):
        ordered([step("a", "b"), step("b", "c"), step("c", "b")])
    with pytest.raises(ProjectError, match="cycle: a -> a"):
        ordered([step("a", "a")])


def test_an_input_that_is_no_step_is_named() -> None:
    with pytest.raises(ProjectError, match="Step 'a' takes 'i0' from 'nowhere', which is not a step"):
        ordered([step("a", "nowhere")])


def test_a_name_stands_for_one_step() -> None:
    with pytest.raises(ProjectError, match="Two steps are named 'a'"):
        ordered([step("a"), step("a")])
