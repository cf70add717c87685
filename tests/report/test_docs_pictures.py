"""The pictures of the pages of results, which `docs.pictures` draws."""

from __future__ import annotations

from docs import pictures, tables


def test_pictures_of_results_are_those_of_their_rows() -> None:
    asked = [each for page in tables.pages() for each in pictures.asked_in(page.read_text())]
    assert len(asked) >= 5
    for each in asked:
        anew = f"{pictures.path_of(each)}: python -m docs.pictures draws it anew"
        assert pictures.path_of(each).read_text().endswith(pictures.ending(each)), anew
        drawn = pictures.drawn(each)
        assert all(name in drawn for name in each["stages"].values())
    for page in tables.pages():
        assert pictures.rendered(page.read_text()) == page.read_text()
