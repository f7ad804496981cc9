from pathlib import Path

import numpy as np
import pytest

from client.serving.language import training
from client.serving.language.constraints import filters
from client.serving.language.understand import Language
from client.serving.understood import Leaning, Range, Term, Understood
from shared.catalogue import Catalogue
from shared.encoder import Reading, TextEncoder
from shared.errors import ConfigError
from tests.client.serving.language.spoken import ITEMS, catalogue, chinese_encoder
from tests.factories import tiny_encoder

FEW = 300  # made-up requests that these heads are trained on


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("heads")


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return tiny_encoder()


@pytest.fixture(scope="module")
def language(encoder: TextEncoder, cache: Path) -> Language:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "REQUESTS", FEW)
        return Language(catalogue(), encoder, cache)


@pytest.fixture(scope="module")
def bilingual(cache: Path) -> Language:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "REQUESTS", 2 * FEW)
        return Language(catalogue(), chinese_encoder(), cache)


def parts(made: Understood) -> tuple[set[str], set[str], list[tuple[object, object]]]:
    return (
        {term.value for term in made.wanted},
        {term.value for term in made.unwanted},
        [(each.low, each.high) for each in made.ranges],
    )


def asked(language: Language, *turns: str) -> Understood:
    made: Understood | None = None
    for turn in turns:
        made, _ = language.understand(turn, made)
    assert made is not None
    return made


def test_a_request_of_every_part_is_understood(language: Language) -> None:
    made = asked(
        language,
        "a highly rated science-fiction film from the nineties, nothing with horror",
    )

    assert parts(made) == ({"Sci-Fi", "film"}, {"Horror"}, [(1990, 1999)])
    assert [(each.toward, each.weight) for each in made.leanings] == [("popularity", 1)]
    assert made.sentence == (
        "Films; genre Sci-Fi; from 1990 to 1999; well known; not Horror."
    )


def test_follow_up_turns_refine(language: Language) -> None:
    first = "horror films from the fifties"

    assert parts(asked(language, first, "newer")) == (
        {"Horror", "film"},
        set(),
        [(1960, None)],
    )
    assert parts(asked(language, first, "only comedies"))[0] == {"Comedy", "film"}
    assert parts(asked(language, first, "also comedies"))[0] == {
        "Horror",
        "Comedy",
        "film",
    }
    assert parts(asked(language, first, "no war"))[1] == {"War"}
    assert parts(asked(language, first, "forget the genre"))[0] == {"film"}
    assert parts(asked(language, first, "any year"))[2] == []
    assert parts(asked(language, first, "before 1950"))[2] == [(None, 1949)]


def test_less_of_something_is_a_wish_and_no_constraint(language: Language) -> None:
    made = asked(language, "horror films from the fifties", "less violent, and newer")

    assert made.leanings == (Leaning(toward="meaning", words="violent", weight=-1.0),)
    assert parts(made)[2] == [(1960, None)]


def test_newer_without_years_is_a_wish(language: Language) -> None:
    made = asked(language, "comedies", "newer")

    assert [(each.toward, each.weight) for each in made.leanings] == [("decade", 1.0)]


def test_newer_than_all_there_is_stays_within_the_bounds(language: Language) -> None:
    made = asked(language, "comedies from the nineties", "newer")

    assert parts(made)[2] == [(1990, 1999)]
    assert [each.toward for each in made.leanings] == ["decade"]


def test_cheaper_moves_below_the_last_bounds(language: Language) -> None:
    made = asked(language, "books between 20 and 30 dollars", "cheaper")

    (price,) = made.ranges
    assert price.low is None
    assert price.high is not None
    assert price.high < 20


def test_a_refused_value_is_wanted_no_more_and_may_come_back(
    language: Language,
) -> None:
    assert parts(asked(language, "horror or war", "no horror"))[:2] == (
        {"War"},
        {"Horror"},
    )
    assert parts(asked(language, "no horror", "only horror"))[:2] == ({"Horror"}, set())


def test_another_request_in_a_conversation_starts_anew(language: Language) -> None:
    made = asked(
        language, "horror from the fifties", "a book about bees, under 20 euros"
    )

    assert parts(made)[0] == {"book"}
    assert [each.attribute for each in made.ranges] == ["price"]


def test_instead_keeps_the_rest(language: Language) -> None:
    made = asked(language, "horror from the fifties", "comedies instead")

    assert parts(made) == ({"Comedy"}, set(), [(1950, 1959)])


def test_others_like_an_item(language: Language) -> None:
    assert asked(language, "something like Toy Story").like == ("item-0",)
    assert asked(language, "similar to Toy Story and Alien").like == (
        "item-0",
        "item-4",
    )
    assert asked(language, "sci-fi but not Star Wars").unlike == ("item-1",)
    assert asked(language, "sci-fi", "more like Alien").like == ("item-4",)


@pytest.mark.parametrize(
    "text", ["", " ", "?!", "a", "no", "not", "-", "not not no", "1"]
)
def test_what_says_nothing_asks_for_anything(language: Language, text: str) -> None:
    made, vector = language.understand(text)

    assert filters(made) == {}
    assert made.sentence
    assert np.isfinite(vector).all()


def test_words_that_are_left_are_the_meaning(
    language: Language, encoder: TextEncoder
) -> None:
    text = "a horror film about bees and honey"

    made, vector = language.understand(text)

    assert made.meaning == "bees and honey"
    (read,) = encoder.read([text])
    kept = (read.spans[:, 0] >= text.index("bees")) & (read.spans[:, 1] > 0)
    alone = Reading(read.spans[kept], read.unknown[kept], read.hidden[kept])
    assert np.allclose(vector, encoder.meaning(alone), atol=1e-6)


def test_without_a_meaning_the_vector_points_nowhere(language: Language) -> None:
    assert not language.understand("horror films")[1].any()


def test_where_nothing_is_understood_the_whole_text_is_meant(
    language: Language, encoder: TextEncoder
) -> None:
    text = "what is there to see"

    made, vector = language.understand(text)

    assert made.meaning == ""
    assert np.allclose(vector, encoder.meaning(encoder.read([text])[0]), atol=1e-6)


def test_a_meaning_is_refined_too(language: Language, encoder: TextEncoder) -> None:
    first, _ = language.understand("a story about bees")
    made, vector = language.understand("set on volcanoes", first)

    assert made.meaning == "bees, volcanoes"
    read = encoder.read(["bees, volcanoes"])
    assert np.allclose(vector, encoder.meaning(read[0]), atol=1e-6)


def test_what_comes_back_from_outside_is_not_believed(language: Language) -> None:
    nan = float("nan")
    odd = Understood(
        language="xx",
        wanted=(Term(attribute="gone", value="x", words=""),),
        ranges=(
            Range(attribute="genres", low=1, high=2, words=""),
            Range(attribute="decade", low=nan, high=1950, words=""),
        ),
        leanings=(
            Leaning(toward="gone", words="x", weight=1.0),
            Leaning(toward="popularity", words="x", weight=1e9),
        ),
        like=("gone",),
        meaning="x" * 60_000,
    )

    made, _ = language.understand("newer", odd)

    assert filters(made) == {}
    assert max(each.weight for each in made.leanings) == 1.0
    assert len(made.meaning) < 1000


def test_chinese_is_refused_by_an_encoder_that_cannot_spell_it(
    language: Language,
) -> None:
    text = "我想看恐怖片"

    with pytest.raises(ConfigError, match="ask in en") as caught:
        language.understand(text)

    assert language.languages == ("en",)
    assert not set(text) & set(str(caught.value))


def test_signs_that_cannot_be_spelt_are_refused(language: Language) -> None:
    with pytest.raises(ConfigError, match="cannot spell"):
        language.understand("\U0001f9ff \U0001fab7 \U0001fae7 ok")


@pytest.mark.parametrize(
    ("text", "wanted", "unwanted", "ranges"),
    [
        (
            "90年代的科幻电影,但不要恐怖",
            {"Sci-Fi", "film"},
            {"Horror"},
            [(1990, 1999)],
        ),
        ("没有暴力的战争片", {"War"}, set(), []),
        ("喜剧或战争片,1950年以前", {"Comedy", "War"}, set(), [(None, 1949)]),
        ("一本关于大海的书,20元以下", {"book"}, set(), [(None, 20)]),
        ("funny books, no war", {"Comedy", "book"}, {"War"}, []),
    ],
)
def test_chinese_is_understood(
    bilingual: Language,
    text: str,
    wanted: set[str],
    unwanted: set[str],
    ranges: list[tuple[object, object]],
) -> None:
    assert bilingual.languages == ("en", "zh")
    assert parts(asked(bilingual, text)) == (wanted, unwanted, ranges)


def test_chinese_follow_up_turns_refine(bilingual: Language) -> None:
    made = asked(bilingual, "五十年代的恐怖电影", "更新一点", "不那么暴力", "不要战争")

    assert parts(made) == ({"Horror", "film"}, {"War"}, [(1960, None)])
    assert [(each.words, each.weight) for each in made.leanings] == [("暴力", -1.0)]
    assert made.sentence.endswith("。")
    assert parts(asked(bilingual, "五十年代的恐怖电影", "类型不限"))[0] == {"film"}


def test_a_head_is_trained_once_and_read_by_others(
    language: Language,
    encoder: TextEncoder,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "train", None)  # to call it would fail

    again = Language(catalogue(), encoder, cache)

    text = "horror from the fifties about bees"
    assert again.understand(text)[0] == language.understand(text)[0]


@pytest.mark.slow
def test_a_damaged_head_is_made_again(
    encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "REQUESTS", 40)
    Language(catalogue(), encoder, tmp_path)
    (kept,) = tmp_path.glob("*.safetensors")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:100])

    Language(catalogue(), encoder, tmp_path)

    assert kept.read_bytes() == whole


def test_an_added_item_can_be_named_at_once(language: Language) -> None:
    old = catalogue()
    more = Catalogue(
        ids=(*old.ids, "new"),
        texts=(*old.texts, "Brand New Day (1999). A tale"),
        attributes={
            name: (*values, (added,))
            for (name, values), added in zip(
                old.attributes.items(),
                ("Western", "film", "Zoe Quill", "1990s", "3"),
                strict=True,
            )
        },
    )

    grown = language.with_catalogue(more)

    assert parts(asked(grown, "a western by Zoe Quill"))[0] == {"Western", "Zoe Quill"}
    assert asked(grown, "something like Brand New Day").like == ("new",)
    assert len(more) == ITEMS + 1
