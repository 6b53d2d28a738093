"""Cutting what was sent into pieces, as a network may."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

from hypothesis import strategies as st

Text = TypeVar("Text", str, bytes)


def cut(whole: Text) -> st.SearchStrategy[list[Text]]:
    """Return a strategy for the pieces, empty ones included, that make up `whole`."""
    places = st.lists(st.integers(0, len(whole)), max_size=len(whole) + 2)
    return st.one_of(
        st.just([whole[i : i + 1] for i in range(len(whole))]),
        places.map(sorted).map(lambda at: _pieces(whole, at)),
    )


def _pieces(whole: Text, places: list[int]) -> list[Text]:
    edges = [0, *places, len(whole)]
    return [whole[a:b] for a, b in pairwise(edges)]
