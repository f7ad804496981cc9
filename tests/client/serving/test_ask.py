"""What is asked and answered is user data: it shows in no log and no traceback."""

import pytest

from client.serving.ask import Answer, Ask, Cause, Parts, Reason, Recommended, Wanted
from client.serving.understood import Leaning, Range, Term, Understood

PARTS = Parts(text=0.0, query=0.0, cf=0.0, prior=0.0, interests=0.0, rules=0.0)
CAUSE = Cause(kind="history", name="secret", text="secret", amount=1.0)
REASON = Reason(sentence="secret", causes=(CAUSE,))
TERM = Term(attribute="secret", value="secret", words="secret")
RANGE = Range(attribute="secret", low=1.0, high=None, words="secret")
LEANING = Leaning(toward="secret", words="secret", weight=1.0)
UNDERSTOOD = Understood(
    language="en",
    wanted=(TERM,),
    ranges=(RANGE,),
    leanings=(LEANING,),
    meaning="secret",
)
RECOMMENDED = Recommended(
    item="secret",
    text="secret",
    attributes={"secret": ("secret",)},
    score=0.0,
    parts=PARTS,
    explored=False,
    reason=REASON,
)
ANSWER = Answer(
    list="secret",
    release="spring/3",
    items=(RECOMMENDED,),
    alpha=0.5,
    diversity=0.0,
    understood=UNDERSTOOD,
    conversation="secret",
)
EVERY = [
    Ask(user="secret"),
    Wanted(any_of=("secret",)),
    CAUSE,
    REASON,
    TERM,
    RANGE,
    LEANING,
    UNDERSTOOD,
    RECOMMENDED,
    ANSWER,
]


@pytest.mark.parametrize("each", EVERY, ids=lambda each: type(each).__name__)
def test_nothing_of_it_is_printed(each: object) -> None:
    assert repr(each) == f"{type(each).__name__}(not shown)"
