"""Names for containers that were given none, and what a name may be."""

import re
import secrets
from collections.abc import Callable

from orlop.errors import InvalidArgumentError

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_MANNERS = """
brave bright brisk calm clear clever cosy crisp daring deft eager early fair fleet fond
frank gentle glad golden grand happy honest humble jolly keen kind lively lucky mellow merry
mild modest neat nimble noble patient placid plucky polite proud quick quiet rapid ready
rosy serene sharp silent silver sleek smart snug solid spry steady sturdy sunny swift tidy
true vivid warm wise witty
"""
_CREATURES = """
adder auk badger bat bear beaver bison bittern boar bream carp chough cod coot crane crow
curlew dace deer dipper dove duck dunlin eagle eel egret elk falcon finch fox gannet godwit
goose grebe gull hare hawk heron hobby hoopoe ibis jay kestrel kite knot lark linnet lynx
magpie marten merlin mole moth newt otter owl perch pike plover puffin quail raven redstart
roach robin rook ruff seal shrew siskin skua snipe stoat stork swallow swan swift teal tern
thrush toad trout vole wagtail weasel wigeon wren
"""


def check_name(name: str) -> None:
    """Raise InvalidArgumentError, in Docker's words, for what cannot be a name."""
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise InvalidArgumentError(
            f"Invalid container name ({name[:300]}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )


def generate(is_taken: Callable[[str], bool]) -> str:
    """Return a name that nobody has, such as "swift_heron"."""
    for attempt in range(100):
        name = f"{secrets.choice(_MANNERS.split())}_{secrets.choice(_CREATURES.split())}"
        if attempt > 2:  # two words are getting scarce
            name += str(secrets.randbelow(10 ** min(attempt, 6)))
        if not is_taken(name):
            return name
    return secrets.token_hex(8)
