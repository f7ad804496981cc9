"""Adapting: from released tallies to the way a list is made."""

import numpy as np
import pytest

from client.serving.feedback.adaptation import COMPARED, Adaptation, Choice
from client.serving.feedback.arms import LEVELS, NAMES, USUAL, Arm, places_of
from client.serving.feedback.segments import SEGMENTS, segment_of
from client.serving.feedback.tallies import SHAPE, Tallies
from client.serving.feedback.thompson import MEAN, VARIANCE, belief


def tallies(*won: tuple[str, str, float, float], noise: float = 0.0) -> Tallies:
    """Tallies with votes at (segment, level): how many it won, how many it lost."""
    votes = np.zeros(SHAPE, np.float32)
    for segment, level, ahead, behind in won:
        votes[SEGMENTS.index(segment), NAMES.index(level)] = ahead, behind
    return Tallies(
        number=1,
        time=0,
        votes=votes,
        noise=noise,
        groups=np.zeros(0, np.float32),
        groups_noise=0.0,
        layout="",
    )


def teams(choice: Choice) -> list[str]:
    """The levels that a list compares, if it does."""
    return [team for team in (choice.team_a, choice.team_b) if team]


@pytest.mark.parametrize(
    ("likes", "segment"),
    [
        *((0, "new"), (1, "few"), (4, "few"), (5, "some"), (19, "some"), (20, "many")),
        (10_000, "many"),
    ],
)
def test_a_segment_is_a_matter_of_how_much_is_known(likes: int, segment: str) -> None:
    assert segment_of(likes) == segment


def test_before_any_release_every_segment_is_served_in_the_usual_way() -> None:
    adaptation = Adaptation(None)

    assert {adaptation.best(segment) for segment in SEGMENTS} == {USUAL}


def test_one_list_in_five_compares_two_levels_of_one_axis() -> None:
    rng = np.random.default_rng(1)
    choices = [Adaptation(None).choose(3, rng) for _ in range(4000)]

    compared = [choice for choice in choices if choice.arm_b is not None]
    alone = [choice for choice in choices if choice.arm_b is None]

    assert abs(len(compared) / 4000 - COMPARED) < 4 * (0.2 * 0.8 / 4000) ** 0.5
    assert {(one.arm_a, one.team_a, one.team_b) for one in alone} == {(USUAL, "", "")}
    assert {one.segment for one in choices} == {"few"}
    for one in compared:
        assert one.arm_b is not None
        a, b = one.arm_a, one.arm_b
        assert (a.alpha != b.alpha) + (a.explore != b.explore) == 1
        axis = "alpha" if a.alpha != b.alpha else "explore"
        assert (one.team_a, one.team_b) == (a.level(axis), b.level(axis))
        assert {one.team_a, one.team_b} <= {*NAMES}


def test_without_a_release_every_level_is_compared_equally_often() -> None:
    rng, adaptation = np.random.default_rng(2), Adaptation(None)
    named = [name for _ in range(20_000) for name in teams(adaptation.choose(0, rng))]

    shares = [named.count(name) / len(named) for name in NAMES]

    assert np.allclose(shares, 1 / len(NAMES), atol=0.02)


def test_a_level_that_wins_is_served_in_its_segment_and_in_no_other() -> None:
    adaptation = Adaptation(
        tallies(
            ("new", "alpha +0.2", 80, 20),
            ("new", "alpha +0", 30, 70),
            ("new", "explore x0", 10, 60),
        )
    )

    assert adaptation.best("new") == Arm(alpha=0.2, explore=1.0)
    assert {adaptation.best(segment) for segment in SEGMENTS[1:]} == {USUAL}


def test_what_noise_could_have_made_changes_nothing() -> None:
    """Under noise of ten votes a lead of five means nothing."""
    lead = ("new", "alpha +0.2", 8, 3), ("new", "alpha +0", 3, 8)

    assert Adaptation(tallies(*lead, noise=0.0)).best("new").alpha == 0.2
    assert Adaptation(tallies(*lead, noise=100.0)).best("new").alpha == 0.0


def test_a_list_compares_the_levels_that_may_be_best() -> None:
    adaptation = Adaptation(
        tallies(
            ("many", "alpha -0.2", 5, 400),
            ("many", "alpha +0", 300, 200),
            ("many", "alpha +0.2", 310, 200),
        ),
        axes=("alpha",),
    )
    rng = np.random.default_rng(3)

    chosen = [teams(adaptation.choose(50, rng)) for _ in range(2000)]
    compared = [arms for arms in chosen if arms]

    assert len(compared) > 300
    assert sum("alpha -0.2" in arms for arms in compared) == 0


def test_an_axis_that_is_left_out_is_neither_compared_nor_changed() -> None:
    wins = tallies(("few", "explore x2", 90, 10), ("few", "explore x1", 10, 90))
    rng, adaptation = np.random.default_rng(4), Adaptation(wins, axes=("alpha",))

    choices = [adaptation.choose(2, rng) for _ in range(500)]

    assert {choice.arm_a.explore for choice in choices} == {1.0}
    assert Adaptation(wins, axes=()).choose(2, rng).arm_a == USUAL


def test_nothing_known_is_a_uniform_chance() -> None:
    nothing = belief(np.zeros((3, 2)), 200.0)

    assert np.allclose(nothing.mean, MEAN)
    assert np.allclose(nothing.variance, VARIANCE)


def test_votes_without_noise_are_believed_as_they_grow() -> None:
    found = [belief(np.array([[0.7 * n, 0.3 * n]]), 0.0) for n in (1, 10, 100, 10_000)]

    means = [float(one.mean[0]) for one in found]
    assert means == sorted(means)
    assert means[-1] == pytest.approx(0.7, abs=1e-3)
    assert [float(one.variance[0]) for one in found] == sorted(
        (float(one.variance[0]) for one in found), reverse=True
    )


def test_noise_alone_teaches_little() -> None:
    """Tallies of nobody: believed chances stay near a half, whatever noise did."""
    rng, sigma = np.random.default_rng(5), 14.0
    found = belief(rng.normal(0, sigma, (5000, 2)), sigma**2)

    assert abs(found.mean.mean() - MEAN) < 0.01
    assert found.mean.std() < VARIANCE**0.5 / 2
    assert np.all(found.variance <= VARIANCE + 1e-12)


def test_the_truth_is_found_through_noise() -> None:
    """Of 500 votes a level wins 70 %, under noise of sigma 10: it is served."""
    rng, right = np.random.default_rng(6), 0
    unit = 2**-0.5
    for _ in range(200):
        sums = np.zeros(SHAPE)
        for winner, loser, times in (
            ("alpha +0.2", "alpha +0", 350),
            ("alpha +0", "alpha +0.2", 150),
        ):
            sums[1, NAMES.index(winner), 0] += unit * times
            sums[1, NAMES.index(loser), 1] += unit * times
        seen = (sums + rng.normal(0, 10, SHAPE)) / unit
        released = tallies(noise=(10 / unit) ** 2)
        released.votes[:] = seen
        right += Adaptation(released).best("few").alpha == 0.2

    assert right >= 190


def test_levels_of_both_axes_have_names_of_their_own() -> None:
    assert len({*NAMES}) == sum(map(len, LEVELS.values())) == len(NAMES)
    assert NAMES[places_of("explore")] == ("explore x0", "explore x1", "explore x2")
