"""Whatever a site is asked in whatever order, its ledger keeps the promise."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.accounting import GaussianEvent, gaussian_epsilon
from shared.chain import verify_lines
from shared.entries import Entry
from shared.errors import BudgetSpent, LedgerBroken
from shared.ledger import Ledger
from shared.ledger_file import read_ledger
from tests.shared.books import DELTA, book, seal, train, unprotected

EVENTS = [
    GaussianEvent(q=1.0, sigma=sigma, steps=steps)
    for sigma, steps in ((8.0, 1), (8.0, 4), (30.0, 20))
]
BUDGETS = (0.5, 1.0, 2.0, math.inf)


@dataclass
class Told:
    """What a site was asked and answered, kept apart from its ledger."""

    folder: Path
    budget: float = 1.0
    charged: list[GaussianEvent] = field(default_factory=list)
    exposed: bool = False
    unsealed: list[int] = field(default_factory=list)
    before: list[Entry] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return book(self.folder, self.budget)

    def exact(self, *extra: GaussianEvent) -> float:
        """Epsilon by the closed form for q = 1, which the ledger may not go below."""
        squares = sum(e.steps / e.sigma**2 for e in [*self.charged, *extra])
        if self.exposed:
            return math.inf
        return gaussian_epsilon(math.sqrt(squares), DELTA) if squares else 0.0

    def plan(self, choice: int) -> None:
        wanted = EVENTS[choice % len(EVENTS)]
        try:
            self.unsealed.append(train(self.ledger, 1, wanted))
        except BudgetSpent:
            assert self.exact(wanted) > self.budget - 0.01  # PLD rounds up
        else:
            assert self.exact(wanted) <= self.budget
            self.charged.append(wanted)

    def expose(self, _choice: int) -> None:
        try:
            self.unsealed.append(unprotected(self.ledger, 1))
        except BudgetSpent:
            assert self.budget < math.inf
        else:
            assert self.budget == math.inf
            self.exposed = True

    def seal(self, choice: int) -> None:
        if self.unsealed:
            seal(self.ledger, self.unsealed.pop(choice % len(self.unsealed)))

    def seal_again(self, choice: int) -> None:
        sealed = [e.body["planned"] for e in self.before if e.state == "sealed"]
        for planned in sealed[choice % 3 :][:1]:
            with pytest.raises(LedgerBroken, match="not an unsealed plan"):
                seal(self.ledger, planned)

    def refuse(self, choice: int) -> None:
        self.ledger.refused("r", choice, "PolicyRefused")

    def change_policy(self, choice: int) -> None:
        self.budget = BUDGETS[choice % len(BUDGETS)]

    def check(self) -> None:
        chain = self.ledger.chain()
        assert chain.entries[: len(self.before)] == self.before
        assert chain.events == self.charged
        assert chain.exposed == self.exposed
        assert self.exact() <= chain.epsilon("add_remove")
        self.before = chain.entries


CALLS = (
    *(Told.plan, Told.plan, Told.plan, Told.expose),
    *(Told.seal, Told.seal_again, Told.refuse, Told.change_policy),
)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    calls=st.lists(
        st.tuples(st.sampled_from(CALLS), st.integers(0, 11)), min_size=3, max_size=12
    )
)
def test_no_sequence_of_calls_passes_a_budget_or_loses_an_entry(
    tmp_path_factory: pytest.TempPathFactory,
    calls: list[tuple[Callable[[Told, int], None], int]],
) -> None:
    site = Told(tmp_path_factory.mktemp("site"))
    for call, choice in calls:
        call(site, choice)
        site.check()

    site.ledger.export(site.folder / "lines")
    lines = (site.folder / "lines").read_text("utf-8").splitlines()
    assert verify_lines(lines).entries == site.before
    assert read_ledger(site.folder / "ledger.sqlite").entries == site.before
