"""The order of a start: what can be said of all starts, without starting any."""

from hypothesis import given
from hypothesis import strategies as st

from orlop.runtime import init, order
from orlop.runtime.order import Fact
from orlop.runtime.recipe import table

FACTS = st.builds(
    lambda facts: sum(facts, Fact(0)), st.lists(st.sampled_from([*Fact]), unique=True)
)


def test_the_python_child_knows_every_step() -> None:
    born_last = ("hide_stdio", "close_others", "limit_capabilities")
    assert {*init._STEPS} == {*(place.step for place in order.ORDER), *born_last}


def test_the_table_knows_no_step_that_is_not_in_the_order() -> None:
    assert {*table._STEPS} <= {place.step for place in order.ORDER}


@given(facts=FACTS)
def test_a_process_born_last_takes_every_step_once(facts: Fact) -> None:
    first, last = order.first_steps(facts), order.last_steps(facts)
    whole = order.steps(facts)
    assert len({*whole}) == len(whole)
    assert {*whole} <= {*first, *last}
    assert {*first} & {*last} <= {"die_with_parent"}  # from whom each is a child


@given(facts=FACTS)
def test_the_filter_comes_late_and_the_program_last(facts: Fact) -> None:
    steps = order.steps(facts)
    after = steps[steps.index("load_filter") + 1 :]
    assert {*after} <= {"set_capabilities", "wait_at_gate", "run_start_hooks", "run_program"}
    assert after[-1] == "run_program"
