"""The frozen records that stand in for dataclasses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_sandbox.values import Value


class Point(Value):
    x: int
    y: int = 2
    _note = "no field"


class Named(Point):
    name: str = ""


def test_fields_are_given_by_place_or_name_and_have_defaults() -> None:
    assert (Point(1).x, Point(1).y) == (1, 2)
    assert Point(1, 3) == Point(y=3, x=1)
    assert Named(1, 2, "a") == Named(1, name="a")
    assert repr(Named(1)) == "Named(x=1, y=2, name='')"


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1}), ((), {"y": 1})],
)
def test_what_doesnt_fit_is_a_type_error(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        Point(*args, **kwargs)


def test_nothing_is_changed_or_deleted() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 5  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del point.x
    assert point.replace(y=5) == Point(1, 5)
    assert point == Point(1)
    with pytest.raises(TypeError):
        point.replace(z=5)


@given(st.integers(), st.integers(), st.integers())
def test_equal_fields_of_one_kind_are_equal_and_hash_alike(x: int, y: int, z: int) -> None:
    assert Point(x, y) == Point(x, y)
    assert hash(Point(x, y)) == hash(Point(x, y))
    assert (Point(x, y) == Point(x, z)) == (y == z)
    assert Point(x, y) != Named(x, y)
    assert Point(x, y) != (x, y)
