"""What a visitor may give: plain checks, and words that say what was given and what is allowed.

A page's own widgets keep to their ranges, but its API takes any JSON. So nothing is trusted here.
"""

from __future__ import annotations

LONGEST_SHOWN = 60


class InputError(ValueError):
    """What the visitor is told: what was given, and what is allowed."""


def text_of(given: object, *, what: str = "text") -> str:
    """The text, with ``\\n`` line ends, and U+FFFD for halves of characters, which UTF-8 cannot hold.

    Raises:
        InputError: it is no text, or there is nothing in it but blanks.
    """
    if not isinstance(given, str):
        raise InputError(f"The {what} must be a string, not {shown(given)}.")
    whole = given.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if not whole.strip():
        raise InputError(f"The {what} is empty. Write or paste something, or take an example.")
    return whole.replace("\r\n", "\n").replace("\r", "\n")


def whole_number(given: object, name: str, lowest: int, highest: int) -> int:
    """``given`` as an integer from ``lowest`` to ``highest``; 3.0 counts as 3.

    Raises:
        InputError: it is none.
    """
    value = number(given, name, lowest, highest, kind="a whole number")
    if value != int(value):
        raise InputError(f"{name} must be a whole number from {lowest} to {highest}, not {shown(given)}.")
    return int(value)


def number(
    given: object, name: str, lowest: int | float, highest: int | float, *, kind: str = "a number"
) -> int | float:
    """``given``, a number from ``lowest`` to ``highest``.

    Raises:
        InputError: it is none; true, false and NaN are none.
    """
    # NaN is never between two numbers.
    if isinstance(given, int | float) and not isinstance(given, bool) and lowest <= given <= highest:
        return given
    raise InputError(f"{name} must be {kind} from {lowest} to {highest}, not {shown(given)}.")


def one_of(given: object, name: str, allowed: tuple[str, ...]) -> str:
    """``given``, one of the ``allowed`` words.

    Raises:
        InputError: it is another one.
    """
    if not isinstance(given, str) or given not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}; not {shown(given)}.")
    return given


def shown(given: object) -> str:
    """A short, printable form of whatever was given."""
    if given is None:
        return "nothing"
    if isinstance(given, list | dict):
        return f"a {type(given).__name__}"
    if isinstance(given, int) and abs(given) > 10**LONGEST_SHOWN:
        return "a number of many digits"  # of too many, Python itself prints none
    words = ascii(given)
    return words if len(words) <= LONGEST_SHOWN else f"{words[:LONGEST_SHOWN]}…"
