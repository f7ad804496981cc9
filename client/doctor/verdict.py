"""What the doctor says of one precondition; it never holds a user's id, data or count.

A check that cannot be carried out is a fault of its own, told by its class alone: what
a library says in an error may quote what it read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "FAULT"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One precondition, what was found, and what to do about it.

    Attributes:
        check: What was looked at.
        state: Whether it holds; a warning keeps nobody from joining.
        found: What is there.
        remedy: What to do; empty where all is well.
    """

    check: str
    state: State
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Verdict:
    """Return the verdict that all is well."""
    return Verdict(check, "ok", found)


def warning(check: str, found: str, remedy: str) -> Verdict:
    """Return the verdict that a person should look, but may go on."""
    return Verdict(check, "warning", found, remedy)


def fault(check: str, found: str, remedy: str) -> Verdict:
    """Return the verdict that the site cannot take part, or must not."""
    return Verdict(check, "FAULT", found, remedy)


def checked(
    check: str, remedy: str, look: Callable[..., Verdict], *needs: object
) -> Verdict:
    """Return the verdict, or a fault with the class of what was raised instead.

    Args:
        check: What is looked at.
        remedy: What to do if the check itself fails.
        look: The check.
        needs: What it takes; None where that itself is broken.
    """
    if None in needs:
        return warning(check, "not checked", "mend the faults above, then ask again")
    try:
        return look(*needs)
    except Exception as error:  # noqa: BLE001 - whatever it is, the next check follows
        return fault(check, type(error).__name__, remedy)
