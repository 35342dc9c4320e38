"""Objects kept as columns against the same objects one by one."""

from __future__ import annotations

import pickle
from dataclasses import fields

import numpy as np
from write.drive_of_results import drive

from perception_batch.columnar import FusedObjects, Predictions
from perception_batch.types import FusedObject, Prediction


def objects() -> list[FusedObject]:
    """Of several timesteps, with and without positions."""
    return [item for result in drive(12) for item in result.fusion.objects]


def assert_same(a: object, b: object) -> None:
    assert type(a) is type(b)
    for entry in fields(a):  # type: ignore[arg-type]
        one, other = getattr(a, entry.name), getattr(b, entry.name)
        assert np.array_equal(one, other, equal_nan=isinstance(one, (float, np.ndarray))), entry.name
        assert type(one) is type(other), entry.name


def test_columns_are_as_good_as_the_objects() -> None:
    items = objects()
    given = FusedObjects.of(items)
    assert list(given) == items  # the very same
    columns = [getattr(given, entry.name) for entry in fields(FusedObject)]
    made = FusedObjects(*columns)
    assert len(made) == len(items) > 10
    for item, again in zip(items, made, strict=True):
        assert_same(again, item)
    assert made[3] is list(made)[3]  # made once
    assert made[2:5] == tuple(made)[2:5]
    assert FusedObjects.of(made) is made
    assert made.has_position.tolist() == [item.has_position for item in items]


def test_some_of_them() -> None:
    items = objects()
    rows = np.array([5, 0, 7])
    for item, again in zip([items[5], items[0], items[7]], FusedObjects.of(items).take(rows), strict=True):
        assert_same(again, item)


def test_none_are_equal_to_no_tuple_but_the_empty_one() -> None:
    assert FusedObjects.of([]) == ()
    assert list(FusedObjects.of([])) == []
    assert FusedObjects.of(objects()[:1]) != ()
    assert len(FusedObjects.of([]).has_position) == 0


def test_they_travel_between_processes() -> None:
    items = FusedObjects.of(objects())
    there = pickle.loads(pickle.dumps(items))  # noqa: S301 - our own bytes
    for item, again in zip(items, there, strict=True):
        assert_same(again, item)


def test_predictions_too() -> None:
    one = Prediction(3, "car", np.ones(3), np.eye(3), np.array([1.0, np.nan, 0.0]))
    columns = Predictions.of([one, one])
    assert columns.covariance_m2.shape == (2, 3, 3)
    again = Predictions(*[getattr(columns, entry.name) for entry in fields(Prediction)])
    assert_same(again[1], one)
    assert Predictions.of([]).position_m.shape == (0, 3)
