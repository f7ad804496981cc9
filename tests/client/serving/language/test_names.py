import pytest

from client.serving.language.names import Names, title_of
from client.serving.language.spelling import split
from shared.catalogue import Catalogue
from tests.client.serving.language.spoken import catalogue


@pytest.fixture(scope="module")
def names() -> Names:
    return Names(catalogue())


def test_attributes_are_told_apart_by_what_they_hold(names: Names) -> None:
    assert {each.name: each.role for each in names.attributes} == {
        "genres": "trait",
        "domain": "kind",
        "creator": "maker",
        "decade": "number",
        "price": "number",
    }
    assert [each.measure for each in names.numbers] == ["year", "price"]


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ("science fiction", ("genres", "Sci-Fi")),
        ("科幻", ("genres", "Sci-Fi")),
        ("comedies", ("genres", "Comedy")),
        ("kids", ("genres", "Children's")),
        ("movies", ("domain", "film")),
        ("noir", ("genres", "Film-Noir")),
        ("commedy", ("genres", "Comedy")),
        ("priya nair", ("creator", "Priya Nair")),
    ],
)
def test_a_value_is_found_by_what_people_call_it(
    names: Names, words: str, target: tuple[str, str]
) -> None:
    assert names.value(words) == (target,)


def test_a_last_name_stands_for_all_who_have_it(names: Names) -> None:
    (match,) = names.matches(split("ruiz"))

    assert {value for _, value in match.targets} == {"Mateo Ruiz", "Ada Ruiz"}
    assert match.by == "last name"


def test_a_synonym_never_takes_the_place_of_a_value() -> None:
    own = Catalogue(
        ids=("a", "b"), texts=("x", "y"), attributes={"kind": (("film",), ("movie",))}
    )

    assert Names(own).value("movie") == (("kind", "movie"),)


@pytest.mark.parametrize(
    ("words", "item"),
    [("Toy Story", "item-0"), ("the godfather", "item-3"), ("Godfather", "item-3")],
)
def test_a_title_is_found_without_its_article_and_year(
    names: Names, words: str, item: str
) -> None:
    end, ids = names.title(split(words), 0)

    assert (end, ids) == (len(split(words)), (item,))


def test_the_longest_title_is_meant() -> None:
    both = Catalogue(ids=("a", "b"), texts=("Star. X", "Star Wars. Y"), attributes={})

    assert Names(both).title(split("star wars tonight"), 0) == (2, ("b",))


def test_no_title_begins_beyond_the_end(names: Names) -> None:
    assert names.title((), 0) == (0, ())


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Heat (1995). Action", "Heat"),
        ("Quiet Promise, a wry film by X", "Quiet Promise"),
        ("Bosch drill: strong. Green", "Bosch drill"),
        ("卧虎藏龙。动作", "卧虎藏龙"),
    ],
)
def test_a_title_ends_where_the_text_goes_on(text: str, title: str) -> None:
    assert title_of(text) == title


def test_thousands_of_people_can_be_looked_up() -> None:
    people = [f"Given{n} Family{n}" for n in range(5000)]
    many = Catalogue(
        ids=tuple(map(str, range(5000))),
        texts=tuple(f"Title {n}" for n in range(5000)),
        attributes={"actor": tuple((name,) for name in people)},
    )

    names = Names(many)

    assert names.value("given4321 family4321") == (("actor", people[4321]),)
    assert names.matches(split("with Family77"))[0].targets == (("actor", people[77]),)
