import pytest

from shared.catalogue import Catalogue
from shared.errors import DataError


def three_films() -> Catalogue:
    return Catalogue(
        ids=("a", "b", "c"),
        texts=("Heat", "Casino", "Nixon"),
        attributes={"genres": (("Action", "Crime"), (), ("Drama",))},
    )


def test_an_item_is_found_at_its_position() -> None:
    films = three_films()

    assert [films.position(item_id) for item_id in films.ids] == [0, 1, 2]
    assert len(films) == 3


def test_an_unknown_item_is_refused_without_being_named() -> None:
    with pytest.raises(DataError) as caught:
        three_films().position("secret")

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_subset_keeps_the_order_asked_for_and_every_attribute() -> None:
    films = three_films().subset([2, 0])

    assert films == Catalogue(
        ids=("c", "a"),
        texts=("Nixon", "Heat"),
        attributes={"genres": (("Drama",), ("Action", "Crime"))},
    )
    assert films.position("a") == 1


def test_every_fault_of_a_catalogue_is_told_at_once() -> None:
    with pytest.raises(DataError) as caught:
        Catalogue(ids=("a", "a"), texts=("one",), attributes={"genres": ((),)})

    message = str(caught.value)
    assert "texts: 1 entries for 2 items" in message
    assert "genres: 1 entries for 2 items" in message
    assert "1 repeated item ids" in message


def test_a_catalogue_does_not_print_its_items() -> None:
    assert repr(three_films()) == "Catalogue(3 items, attributes ['genres'])"
