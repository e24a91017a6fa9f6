"""The recipes that the shim knows, and its launchers with it."""

from __future__ import annotations

import marshal
from collections.abc import Sequence
from typing import cast

from orlop.errors import InvalidArgumentError, NotFoundError, UnsupportedError
from orlop.model.mount import Mount
from orlop.model.oci import Process as OCIProcess
from orlop.runtime import failure
from orlop.runtime.bundle import Bundle
from orlop.runtime.recipe.plan import plan_exec_recipe, plan_recipe
from orlop.shim.channel import Message
from orlop.shim.config import read_config
from orlop.shim.launchers import Launchers
from orlop.shim.spawn import Kept, Later, Spawn

_MOST_LATER = 64  # kinds of later processes, of each recipe


class Recipes:
    """By the ids that the engine gives them."""

    def __init__(self, launchers: Launchers) -> None:
        self._launchers = launchers
        self._recipes: dict[str, Kept] = {}

    def all(self) -> Sequence[Kept]:
        """Return those that are not dropped."""
        return list(self._recipes.values())

    def get(self, name: str) -> Kept:
        """Return the one called so; NotFoundError if there is none."""
        try:
            return self._recipes[name]
        except KeyError:
            raise NotFoundError(f"no recipe {name}") from None

    def learn(self, message: Message) -> Kept:
        """Op "recipe": return one for the bundle and rootfs, which "start" has too.

        UnsupportedError where only the usual way can start it.
        """
        name = message["id"]
        if name in self._recipes:
            return self._recipes[name]
        config = read_config(message["bundle"])
        rootfs = tuple(Mount(t, source, to, tuple(o)) for t, source, to, o in message["rootfs"])
        bundle = Bundle(name, message["bundle"], config, rootfs)
        try:
            planned = plan_recipe(bundle)
        except failure.StepError as error:
            raise InvalidArgumentError(str(error)) from None
        except OSError as error:  # the usual way can say what it was
            raise UnsupportedError(f"no recipe: {error}") from None
        number = self._launchers.know(planned.recipe, planned.descriptors)
        kept = Kept(number, planned, message, bundle)
        self._recipes[name] = kept
        return kept

    def drop(self, message: Message) -> list[Kept]:
        """Forget the one with its "id", or without that all; return them."""
        names = [message["id"]] if "id" in message else list(self._recipes)
        found = [self._recipes.pop(name) for name in names if name in self._recipes]
        for kept in found:
            kept.dropped = True
            self._launchers.forget(kept.number)
            self.settle(kept)
        return found

    def settle(self, kept: Kept) -> None:
        """Forget of a dropped one how processes are started later, once it has no sandboxes."""
        if kept.dropped and not kept.live:
            for later in kept.execs.values():
                self._launchers.forget(later.number)
            kept.execs.clear()

    def later(self, of: Spawn, message: Message) -> Later:
        """Return how such processes are started, looked at the first time.

        Users are looked up in the image. Of a sandbox that has users of its own only the
        usual way knows them.
        """
        kept = of.recipe
        wanted = cast("OCIProcess", message["process"])
        user = wanted.get("user", {})
        if (user.get("username") or user.get("additionalGroups")) and of.has_own_users():
            raise UnsupportedError("the sandbox has users of its own")
        name = marshal.dumps(dict(wanted), 2)
        later = kept.execs.get(name)
        if later is None:
            try:
                recipe = plan_exec_recipe(kept.image, wanted)
            except (failure.StepError, OSError) as error:  # the usual way can say what it was
                raise UnsupportedError(str(error)) from None
            while len(kept.execs) >= _MOST_LATER:
                self._launchers.forget(kept.execs.pop(next(iter(kept.execs))).number)
            later = Later(self._launchers.know(recipe, ()), recipe.who.home)
            kept.execs[name] = later
        return later
