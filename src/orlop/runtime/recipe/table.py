"""A start's steps written down as system calls, where they can be. Their order is order.py's."""

from collections.abc import Mapping, Sequence

from orlop.errors import UnsupportedError
from orlop.runtime import order
from orlop.runtime.order import Fact
from orlop.runtime.recipe import container, process
from orlop.runtime.recipe.recipe import ProcessRecipe, Recipe
from orlop.runtime.recipe.writer import Step, Writer

#: In no order.
_STEPS: Mapping[str, Step] = {
    step.__name__: step
    for step in (
        container.attach_mounts,
        container.enter_root,
        container.finish_root,
        container.join_namespaces,
        container.leave_cgroup_namespace,
        container.make_cgroup_mounts,
        container.make_devices,
        container.make_mounts,
        container.make_root,
        container.make_working_directory,
        container.mask_paths,
        container.protect_dev,
        container.protect_paths,
        container.set_names,
        process.attach_stdio,
        process.become_user,
        process.enter_cgroup,
        process.enter_working_directory,
        process.forgo_privileges,
        process.join_container,
        process.join_keyring,
        process.load_filter,
        process.own_stdio,
        process.raise_capabilities,
        process.release_signals,
        process.run_program,
        process.seal_descriptors,
        process.set_capabilities,
        process.set_oom_score,
        process.set_rlimits,
        process.shield,
    )
}


def steps_of(facts: Fact) -> tuple[str, ...]:
    """Return the steps of such a start; UnsupportedError names one that cannot be written down."""
    steps = order.steps(facts | Fact.BY_TABLE)
    for step in steps:
        if step not in _STEPS:
            raise UnsupportedError(f"a recipe cannot {step.replace('_', ' ')}")
    return steps


def write(
    recipe: Recipe | ProcessRecipe,
    descriptors: Sequence[int] = (),
    *,
    doors: int,
    idle: bool = False,
    timed: bool = False,
) -> Writer:
    """Return the finished procedure of a start; the arguments are those of Writer."""
    writer = Writer(recipe, descriptors, doors=doors, idle=idle, timed=timed)
    for step in writer.process.steps:
        writer.step(step)
        _STEPS[step](writer)
    writer.procedure.finish()
    return writer
