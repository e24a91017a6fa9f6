"""What can be asked of a template, and how the engine is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.sandbox.arguments import check_list, check_seconds, check_text
from orlop.sandbox.options import Options


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TemplateOptions(Options):
    """Keyword arguments of Template and AsyncTemplate; Template's docstring explains them."""

    python: str = "python3"
    imports: Sequence[str] = ()
    setup: str = ""
    setup_timeout: float | None = 120.0

    def __post_init__(self) -> None:
        check_list("imports", self.imports)
        check_text("python", self.python)
        check_text("setup", self.setup)
        check_seconds("setup_timeout", self.setup_timeout)
        if self.command != Options.command:
            raise InvalidArgumentError("a template has no command but its own")
        given = {"keep": self.keep, "disk": self.disk is not None, "timed": self.timed}
        for word in (word for word, is_given in given.items() if is_given):
            raise UnsupportedError(f"a template cannot have {word}=")
        super().__post_init__()

    def body(self) -> dict[str, Any]:
        made = super().body()
        words = {"Python": self.python, "Imports": list(self.imports), "Setup": self.setup}
        return {**made, "Template": words}
