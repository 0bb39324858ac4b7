"""Where values stand in an answer: what errors' paths are made of, and null propagates along."""

from typing import Any, TypeAlias

# (the place of the container, the container, the key or index in it, whether it may be null).
# A plain tuple, because one is made for every object that has objects below it. None is the
# place of the whole answer.
Place: TypeAlias = tuple[Any, Any, str | int, bool]


def path_of(place: Place | None) -> list[str | int]:
    """Return the response path of *place*, from the root."""
    path: list[str | int] = []
    while place is not None:
        path.append(place[2])
        place = place[0]
    path.reverse()
    return path


def nearest_nullable(place: Place | None) -> Place | None:
    """Return the innermost place at or above *place* that may be null; None is the whole answer."""
    while place is not None and not place[3]:
        place = place[0]
    return place


class NulledPlaces:
    """The places that an error has made null: nothing below them counts any more.

    Places are equal when container and key are the same, so they are known by
    the container's identity; it is kept, so that the identity is not used anew.
    """

    __slots__ = ("_containers", "_everything")

    def __init__(self) -> None:
        self._containers: dict[tuple[int, str | int], Any] = {}
        self._everything = False

    def __bool__(self) -> bool:
        return self._everything or bool(self._containers)

    def add(self, place: Place | None) -> None:
        """Add *place*; None adds everything."""
        if place is None:
            self._everything = True
        else:
            self._containers[id(place[1]), place[2]] = place[1]

    def cover(self, place: Place | None) -> bool:
        """Tell whether *place* is one of them, or below one."""
        while place is not None:
            if (id(place[1]), place[2]) in self._containers:
                return True
            place = place[0]
        return self._everything


def is_at_or_below(place: Place | None, above: Place | None) -> bool:
    """Tell whether *place* is *above*, or below it."""
    if above is None:
        return True
    while place is not None:
        if place[1] is above[1] and place[2] == above[2]:
            return True
        place = place[0]
    return False
