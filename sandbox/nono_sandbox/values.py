"""Frozen values, made without `dataclasses`.

Everything `nono run` does before it executes the program is start-up time, and importing
`dataclasses` (with `inspect`, `re` and `typing` behind it) costs three bare starts of Python.
`Value` gives what is used of it: positional or named fields, defaults, equality, hash, repr.
To a type checker it is a dataclass (PEP 681).

Architecture invariant: this module imports nothing at run time.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Never, Self, dataclass_transform
else:

    def dataclass_transform(**_: object) -> object:
        """Do at run time what the name promises a type checker: nothing."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Value:
    """Base of an immutable record whose fields are its annotations, in order."""

    _fields: tuple[str, ...] = ()
    _defaults: Mapping[str, object] = {}

    def __init_subclass__(cls) -> None:
        """Take the fields of the base, then those of *cls*."""
        own = [name for name in cls.__annotations__ if not name.startswith("_")]
        cls._fields = (*cls._fields, *(name for name in own if name not in cls._fields))
        cls._defaults = {name: getattr(cls, name) for name in cls._fields if hasattr(cls, name)}

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - a subclass's own
        fields = self._fields
        if len(args) > len(fields):
            raise TypeError(f"{type(self).__name__} takes {len(fields)} fields, not {len(args)}")
        # In the order of the fields, however they were given: what travels has no names.
        values = self.__dict__
        values.update(zip(fields, args, strict=False))
        for name in fields[len(args) :]:
            if name in kwargs:
                values[name] = kwargs.pop(name)
            elif name in self._defaults:
                values[name] = self._defaults[name]
            else:
                raise TypeError(f"{type(self).__name__}: field {name!r} is missing")
        if kwargs:
            raise TypeError(f"{type(self).__name__}: unexpected field {next(iter(kwargs))!r}")

    def __setattr__(self, name: str, value: object) -> Never:
        raise AttributeError(f"{type(self).__name__} is frozen: {name!r} can't be set")

    def __delattr__(self, name: str) -> Never:
        raise AttributeError(f"{type(self).__name__} is frozen: {name!r} can't be deleted")

    def _values(self) -> tuple[Any, ...]:
        return tuple(self.__dict__.values())

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, Value):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self._fields)
        return f"{type(self).__name__}({shown})"

    def replace(self, **changes: Any) -> Self:  # noqa: ANN401 - a subclass's own
        """Return a copy with the named fields changed."""
        return type(self)(**{**self.__dict__, **changes})
