"""Replace variables in an instruction's words. Dockerfile reference, "Environment replacement"."""

from collections.abc import Mapping

from e2b_dockerfile_utils import ShellLex

#: Matching a pattern with several `*` takes a power of the value's length.
_MOST_WORK = 10_000_000
_MOST_BYTES = 1 << 20


def expand(text: str, variables: Mapping[str, str], *, escape: str) -> str:
    """Return *text* without quotes, and with its variables' values. ValueError."""
    return _lexer(text, variables, escape).process_word(text)


def expand_words(text: str, variables: Mapping[str, str], *, escape: str) -> list[str]:
    """As expand(), split into words where an unquoted value has spaces."""
    return _lexer(text, variables, escape).process_words(text)


def expand_document(text: str, variables: Mapping[str, str], *, escape: str) -> str:
    """Return a heredoc's *text* with its variables' values; quotes stay."""
    _check(text, variables)
    lexer = ShellLex(
        escape, raw_quotes=True, raw_escapes=True, skip_process_quotes=True, env=variables,
        skip_unset_env=False,
    )  # fmt: skip
    return lexer.process_word(text)


def _lexer(text: str, variables: Mapping[str, str], escape: str) -> ShellLex:
    _check(text, variables)
    return ShellLex(escape, env=variables, skip_unset_env=False)


def _check(text: str, variables: Mapping[str, str]) -> None:
    if text.count("$") == 0:
        return
    longest = max(map(len, variables.values()), default=0)
    if text.count("$") * longest > _MOST_BYTES:
        raise ValueError("the values of the variables are too long")
    stars = text.count("*") + sum(v.count("*") for v in variables.values()) if "${" in text else 0
    if "${" in text and "*" in text and longest ** min(stars, 32) > _MOST_WORK:
        raise ValueError("the pattern in ${} is too complex for values of this length")
