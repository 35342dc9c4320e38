"""What is never split: days, places and vehicles, and what happens at their edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from perception_batch.calibration import Rig
from perception_batch.errors import ConfigError
from perception_batch.labels.groups import group_images
from perception_batch.labels.label_run import LabelRun
from perception_batch.labels.label_settings import LabelSettings
from perception_batch.labels.selection import GUARD, NO_POSITION, Images
from perception_batch.labels.splits import split_images
from perception_batch.ontology import Ontology

DAY_NS = 86_400_000_000_000
NOON_NS = 19_000 * DAY_NS + DAY_NS // 2
Path_ = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]
NOWHERE: Path_ = (np.zeros(0, np.int64), np.zeros((0, 3)))


def run_of(name: str, log: str = "/logs/car_7/x.mcap") -> LabelRun:
    labels = {0: "car"}
    return LabelRun(
        Path(name), name, ("front",), labels, ("car",), Ontology(), Rig("", {}, {}), None, log, name, "0" * 64
    )


def images_at(*stamps: npt.NDArray[np.int64]) -> Images:
    """Runs with an image of one car at each stamp."""
    stamp = np.concatenate(stamps)
    n = len(stamp)
    run = np.repeat(np.arange(len(stamps)), [len(s) for s in stamps])
    return Images(
        run.astype(np.int32), np.arange(n, dtype=np.int32), np.zeros(n, np.int16), stamp, np.ones((n, 1), np.uint16),
        np.zeros(n, np.uint16), np.zeros(n, np.float32), np.zeros(n, np.uint8),
    )  # fmt: skip


def seconds(count: int, begin_ns: int = NOON_NS, step_s: float = 1.0) -> npt.NDArray[np.int64]:
    return begin_ns + np.round(np.arange(count) * step_s * 1e9).astype(np.int64)


def straight(stamps: npt.NDArray[np.int64], speed_mps: float, begin_m: float = 0.0) -> Path_:
    x = begin_m + (stamps - stamps[0]) * 1e-9 * speed_mps
    return stamps, np.stack([x, x * 0, x * 0], axis=1)


def test_a_day_begins_at_midnight_utc_to_the_nanosecond() -> None:
    midnight = 19_001 * DAY_NS
    images = images_at(np.array([midnight - DAY_NS, midnight - 1, midnight, midnight + DAY_NS - 1]))
    group, names = group_images(images, [run_of("a")], [NOWHERE], [""], LabelSettings(group_by="day"))
    assert names == ("2022-01-08", "2022-01-09")
    assert group.tolist() == [0, 0, 1, 1]


def test_days_before_1970_and_at_its_start_have_names() -> None:
    images = images_at(np.array([-1, 0, 5_000_000_000]))
    _, names = group_images(images, [run_of("a")], [NOWHERE], [""], LabelSettings(group_by="day"))
    assert names == ("1969-12-31", "1970-01-01")


def test_drives_of_one_day_stay_together() -> None:
    images = images_at(seconds(5), seconds(5, NOON_NS + 3600 * 10**9), seconds(5, NOON_NS + DAY_NS))
    runs = [run_of(name) for name in "abc"]
    group, names = group_images(images, runs, [NOWHERE] * 3, [""] * 3, LabelSettings(group_by="day"))
    assert len(names) == 2
    assert group.tolist() == [0] * 10 + [1] * 5


def test_a_drive_through_midnight_does_not_leak_from_one_day_into_the_next() -> None:
    midnight = 19_001 * DAY_NS
    night = seconds(600, midnight - 300 * 10**9)
    images = images_at(night, seconds(600, midnight + DAY_NS + DAY_NS // 2))
    settings = LabelSettings(group_by="day", guard_s=30.0)
    group, names = group_images(images, [run_of("a"), run_of("b")], [NOWHERE] * 2, [""] * 2, settings)
    assert len(names) == 3
    split = split_images(images, group, names, settings)
    assert set(split.split.tolist()) == {0, 1, 2}
    kept = images.kept
    before, after = (
        kept & (images.stamp_ns < midnight),
        kept & (images.stamp_ns >= midnight) & (images.run == 0),
    )
    assert before.sum() == after.sum() == 285
    assert images.stamp_ns[after].min() - images.stamp_ns[before].max() >= 30 * 10**9
    assert (images.out[~kept] == GUARD).all()
    assert any("midnight" in note for note in split.notes)


def test_places_are_squares_of_the_fixed_frame() -> None:
    stamps = seconds(40)
    images = images_at(stamps, stamps + DAY_NS)
    settings = LabelSettings(group_by="place", place_m=100.0)
    paths = [straight(stamps, 10.0, -100.0), straight(stamps + DAY_NS, 10.0, -100.0)]
    group, names = group_images(images, [run_of("a"), run_of("b")], paths, ["map", "map"], settings)
    assert names == ("-100m_0m", "0m_0m", "100m_0m", "200m_0m")
    assert group.tolist() == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 10 + group.tolist()[:40]
    split = split_images(images, group, names, settings)
    for place in range(4):
        assert len(set(split.split[group == place].tolist())) == 1  # whichever of the drives
    assert any("touch" in note for note in split.notes)


def test_far_places_have_names_of_their_own() -> None:
    """UTM: seven digits before the point."""
    stamps = seconds(50)
    settings = LabelSettings(group_by="place", place_m=1.0)
    path = straight(stamps, 1.0, 4_500_123.0)
    _, names = group_images(images_at(stamps), [run_of("a")], [path], ["utm"], settings)
    assert len(set(names)) == len(names) == 50


def test_images_without_a_position_are_left_out_and_counted() -> None:
    stamps = seconds(60)
    known = np.concatenate([stamps[10:20], stamps[40:50]])
    images = images_at(stamps)
    path = straight(known, 30.0)
    group_images(images, [run_of("a")], [path], ["odom"], LabelSettings(group_by="place"))
    lost = np.flatnonzero(images.out == NO_POSITION).tolist()
    assert lost == [*range(8), *range(22, 38), *range(52, 60)]
    one = images_at(stamps)
    group_images(one, [run_of("a")], [straight(stamps[5:6], 0.0)], ["odom"], LabelSettings(group_by="place"))
    assert np.flatnonzero(one.kept).tolist() == [3, 4, 5, 6, 7]


def test_a_drive_without_any_position_is_refused_for_places() -> None:
    stamps = seconds(5)
    runs, images = [run_of("a"), run_of("b")], images_at(stamps, stamps)
    settings = LabelSettings(group_by="place")
    with pytest.raises(ConfigError, match=r"place needs the vehicle's motion, which b does not know"):
        group_images(images, runs, [straight(stamps, 1.0), NOWHERE], ["map", ""], settings)
    with pytest.raises(ConfigError, match="origin differs from drive to drive"):
        group_images(images, runs, [straight(stamps, 1.0)] * 2, ["odom", "odom"], settings)
    with pytest.raises(ConfigError, match="origin differs from drive to drive"):
        group_images(images, runs, [straight(stamps, 1.0)] * 2, ["map", "utm"], settings)


@pytest.mark.parametrize("side", [0.0, -5.0, 1e-300, float("nan"), float("inf")])
def test_sides_that_make_no_square_are_refused(side: float) -> None:
    with pytest.raises(ConfigError, match="--place-m"):
        LabelSettings(group_by="place", place_m=side)


def test_vehicles_by_folder_or_by_a_part_of_the_path() -> None:
    runs = [run_of("a", "/l/red/1.mcap"), run_of("b", "/l/blue/2.mcap"), run_of("c", "/l/red/3.mcap")]
    images = images_at(seconds(2), seconds(2), seconds(2))
    settings = LabelSettings(group_by="vehicle")
    group, names = group_images(images, runs, [NOWHERE] * 3, [""] * 3, settings)
    assert names == ("blue", "red")
    assert group.tolist() == [1, 1, 0, 0, 1, 1]
    for pattern, wanted in ((r"/(\d)\.", ("1", "2", "3")), ("red|blue", ("blue", "red"))):
        settings = LabelSettings(group_by="vehicle", vehicle_regex=pattern)
        assert group_images(images, runs, [NOWHERE] * 3, [""] * 3, settings)[1] == wanted
    for pattern, said in (
        ("(", "no regular expression"),
        ("green", "does not fit"),
        ("(x)?red|blue", "is empty"),
    ):
        settings = LabelSettings(group_by="vehicle", vehicle_regex=pattern)
        with pytest.raises(ConfigError, match=said):
            group_images(images, runs, [NOWHERE] * 3, [""] * 3, settings)
    with pytest.raises(ConfigError, match="no folder"):
        group_images(
            images_at(seconds(2)), [run_of("a", "x.mcap")], [NOWHERE], [""], LabelSettings(group_by="vehicle")
        )
