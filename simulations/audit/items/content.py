"""What an item of the report consists of, and how it tells what one site spent.

Its sentences are in ``sentences.toml``; everything that was found is here. A cell that
has no value says why, and never shows a number in its place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from simulations.audit.accounts import Account
from simulations.audit.evidence import Evidence
from simulations.audit.items.wording import epsilon_text
from simulations.audit.plots import Histogram, LineChart

NOT_PRIVATE, UNKNOWN = "NOT PRIVATE", "cannot be stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that a report rests on.

    Attributes:
        evidence: What was given.
        accounts: Each site's account, the worst site first; at least one.
    """

    evidence: Evidence
    accounts: Sequence[Account]


class Table(TypedDict):
    """A table as it is shown."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What was found for one item.

    Attributes:
        words: Fill the braces of its sentences.
        says: Sentences that follow them.
        figures: The same for a program; JSON values alone.
        tables: Every cell as it is shown.
        charts: Drawn as ``simulations/audit/plots.py`` draws them.
    """

    words: Mapping[str, str] = field(default_factory=dict)
    says: Sequence[str] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    charts: Sequence[LineChart | Histogram] = ()


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table."""
    return Table(caption=caption, columns=columns, rows=list(rows))


def no_value(account: Account) -> str:
    """Return why a site has no epsilon."""
    return NOT_PRIVATE if account.unprotected else UNKNOWN


def spent_text(account: Account, accountant: str = "pld") -> str:
    """Return what a site spent by an accountant, or why that has no value."""
    if not account.private:
        return no_value(account)
    value = account.spent.get(accountant)
    return "no finite answer" if value is None else epsilon_text(value)
