import numpy as np
import pytest

from client.serving.language import templates_en, templates_zh
from client.serving.language.names import Names
from client.serving.language.sentences import Composer, Tongue, requests
from client.serving.language.spelling import key_of
from tests.client.serving.language.held_back import FRAMES
from tests.client.serving.language.spoken import catalogue

ITEMS = catalogue()
NAMES = Names(ITEMS)


def composer(language: Tongue, seed: int = 1) -> Composer:
    return Composer(NAMES, ITEMS.texts, language, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("language", "frames"),
    [("en", templates_en.FRAMES), ("zh", templates_zh.FRAMES), ("en", FRAMES)],
)
def test_every_frame_is_filled_and_says_where(
    language: Tongue, frames: tuple[str, ...]
) -> None:
    made = requests(composer(language), frames, len(frames), np.random.default_rng(2))

    for sentence in made:
        assert "{" not in sentence.text
        ends = [0, *(named.end for named in sentence.named)]
        begins = [*(named.begin for named in sentence.named), len(sentence.text)]
        assert all(end <= begin for end, begin in zip(ends, begins, strict=True))
        assert all(named.begin < named.end for named in sentence.named)


def test_values_come_from_the_catalogue() -> None:
    made = requests(
        composer("en"),
        ("{trait} {nouns}, no {no_trait}",),
        200,
        np.random.default_rng(3),
    )

    genres = {value for values in ITEMS.attributes["genres"] for value in values}
    assert {named.value for each in made for named in each.named} == genres


def test_a_frame_that_the_catalogue_cannot_fill_is_left_out() -> None:
    assert composer("en").fits("{trait} by {maker} {range}")
    bare = Names(ITEMS.subset(range(4)))
    bare.named = ()
    bare.numbers = ()
    poor = Composer(bare, ITEMS.texts, "en", np.random.default_rng(1))
    assert not poor.fits("{trait} {nouns}")
    assert not poor.fits("{nouns} {range}")
    assert poor.fits("{nouns} about {about}")


def test_held_back_frames_are_not_trained_on() -> None:
    def plain(frame: str) -> str:
        return key_of(frame.replace("no_", "").replace("nouns", "noun"))

    trained = {plain(frame) for frame in templates_en.FRAMES}

    assert not trained & {plain(frame) for frame in FRAMES}
    assert len(FRAMES) >= 25
    assert len(trained) >= 100
