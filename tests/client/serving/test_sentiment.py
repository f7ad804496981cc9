"""Reviews written by hand for this test; none of them was used to choose anything."""

from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.serving.sentiment import BAD, GOOD, Sentiment
from shared.encoder import TextEncoder, base_digest, load_base, open_encoder
from shared.protocol import AdapterSpec

REVIEWS = {
    "Pacino and De Niro at the top of their game, a stunning crime story.": 1,
    "Watched it three times already and it gets better each time.": 1,
    "My kids laughed all the way through and so did I.": 1,
    "The photography alone is worth the ticket. Go and see it.": 1,
    "Sharp dialogue, a clever plot and an ending that stays with you.": 1,
    "Five stars. The battery lasts for days.": 1,
    "A warm and honest film about growing old together.": 1,
    "Best headphones I have owned, crisp sound and comfortable to wear.": 1,
    "I finished the novel in one night and ordered the sequel at once.": 1,
    "Hilarious. I have not laughed so hard in years.": 1,
    "A bit long, but the performances are outstanding.": 1,
    "The songs are lovely and the animation is gorgeous.": 1,
    "Fits perfectly, arrived quickly, and looks even nicer than in the picture.": 1,
    "One of those rare thrillers that respects its audience. Superb.": 1,
    "Truly inspiring; I left the cinema with a smile.": 1,
    "Solid construction and great value. I bought a second one for my sister.": 1,
    "Tender, funny and beautifully acted.": 1,
    "The recipes are easy to follow and everything tasted delicious.": 1,
    "Spielberg keeps you on the edge of your seat. Fantastic entertainment.": 1,
    "An instant classic that deserves all its awards.": 1,
    "I walked out after forty minutes.": -1,
    "The zip tore on the second day and nobody answered my emails.": -1,
    "Lazy writing, flat jokes and a hero nobody could care about.": -1,
    "Save your money, the trailer shows the only good scenes.": -1,
    "Two hours of my life that I will not get back.": -1,
    "Cheap plastic that smells awful. Sent it back.": -1,
    "The plot is full of holes and the dialogue made me cringe.": -1,
    "Overrated and pretentious. I kept checking my watch.": -1,
    "A disappointing sequel with none of the charm of the original.": -1,
    "The author repeats himself on every page; I gave up halfway.": -1,
    "Loud, ugly and pointless.": -1,
    "Stopped working within a month. One star.": -1,
    "The worst remake imaginable, an insult to the book.": -1,
    "Terrible sound, uncomfortable seats and a film to match.": -1,
    "It was so predictable that I fell asleep.": -1,
    "The instructions are useless and two screws were missing.": -1,
    "Poorly edited and badly miscast. Skip it.": -1,
    "I expected a comedy and got a dreary lecture instead.": -1,
    "Gory for no reason, with characters too stupid to root for.": -1,
    "The coffee tastes burnt and the machine leaks all over the counter.": -1,
}


@lru_cache
def sentiment(base: str) -> Sentiment:
    spec = AdapterSpec(base=base_digest(base))
    return Sentiment(open_encoder(base, spec, "cpu"))


@pytest.mark.slow
def test_four_of_five_reviews_get_the_right_sign() -> None:
    right = [
        text
        for text, sign in REVIEWS.items()
        if sentiment("minilm").of(text) * sign > 0
    ]

    assert len(REVIEWS) == 40
    assert len(right) >= 32


def test_praise_stands_above_blame_even_for_a_random_encoder_that_was_fitted() -> None:
    good, bad = ([sentiment("tiny").of(text) for text in half] for half in (GOOD, BAD))

    assert sum(good) / len(good) > sum(bad) / len(bad) + 0.1


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_from_minus_one_to_one(text: str) -> None:
    assert -1.0 <= sentiment("tiny").of(text) <= 1.0


@pytest.mark.parametrize("text", ["", "  ", "\U0001f99c\U0001f99c \U0001f99c"])
def test_what_has_no_words_that_can_be_spelt_says_nothing(text: str) -> None:
    assert sentiment("tiny").of(text) == 0.0


def test_a_release_of_the_adapter_changes_no_sentiment() -> None:
    spec = AdapterSpec(base=base_digest("tiny"), seed=7)
    encoder = TextEncoder(load_base("tiny"), spec)
    before = Sentiment(encoder).of("A fine film. I liked it!")

    encoder.set_adapter({name: array + 1 for name, array in encoder.adapter().items()})

    assert Sentiment(encoder).of("A fine film. I liked it!") == before


def test_several_sentences_count_by_their_length() -> None:
    good, bad = GOOD[0], BAD[13]
    mixed = sentiment("tiny").of(f"{good} {bad} {bad}")

    assert abs(mixed - sentiment("tiny").of(bad)) < abs(
        mixed - sentiment("tiny").of(good)
    )
