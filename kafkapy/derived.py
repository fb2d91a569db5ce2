"""What is made of something immutable once, for those who need it with every request."""

from collections.abc import Callable
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Deriving:
    """Something immutable that keeps in `_derived` what was made of it."""

    __slots__ = ()

    _derived: dict[Callable[[Any], Any], Any]

    def derived(self, derive: Callable[[Self], T]) -> T:
        """What `derive` makes of this."""
        try:
            found: T = self._derived[derive]
        except KeyError:
            found = self._derived[derive] = derive(self)
        return found
