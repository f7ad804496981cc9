"""Items put over the API join those of the site's data, and change none of them."""

import numpy as np
import pytest

from client.serving.added_items import NewItem, beside, require_fit
from client.serving.refused import Refused
from tests.client.serving.served import WIDTH, served


def test_added_items_are_served_after_those_of_the_data_with_their_attributes() -> None:
    model = served(40)
    items = [
        NewItem(id="n1", text="Old title", attributes={}),
        NewItem(id="n2", text="Casino", attributes={"year": ("1995",)}),
        NewItem(id="n1", text="Heat", attributes={"genres": ("drama", "horror")}),
    ]
    added = beside(items, model.catalogue)

    whole = model.with_items(added, np.ones((2, WIDTH), np.float32))

    assert added.ids == ("n1", "n2")
    assert added.texts == ("Heat", "Casino")
    assert whole.catalogue.position("n1") == 40
    assert 40 in whole.attributes["genres"]["horror"]
    assert whole.attributes["year"]["1995"].tolist() == [35, 41]


def test_what_the_data_have_by_now_stays_as_the_data_have_it() -> None:
    catalogue = served(40).catalogue
    items = [
        NewItem(id="item-3", text="Another text"),
        NewItem(id="n1", text="Heat", attributes={"gone since": ("x",)}),
    ]

    added = beside(items, catalogue)

    assert added.ids == ("n1",)
    assert added.attributes == {"genres": ((),), "year": ((),), "maker": ((),)}


def test_every_class_of_fault_is_told_at_once_by_its_place_alone() -> None:
    items = [
        NewItem(id="n1", text="Heat"),
        NewItem(id="item-3", text="Another text"),
        NewItem(id=" ", text="Casino"),
        NewItem(id="n4", text=""),
        NewItem(id="n5", text="Nixon", attributes={"colour": ("red",)}),
    ]

    with pytest.raises(Refused) as error:
        require_fit(items, served(40).catalogue)

    assert str(error.value).split("\n  ") == [
        "no item was added:",
        "no id or no text: 2 (item 3, 4)",
        "already an item of the site's own data; change it there: 1 (item 2)",
        "an attribute that is none of genres, maker, year: 1 (item 5)",
    ]
    require_fit(items[:1], served(40).catalogue)
