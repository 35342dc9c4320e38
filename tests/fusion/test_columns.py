"""Columns against one thing after the other: groups of boxes, doubtful classes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.calibration import Intrinsics
from perception_batch.fusion.associate import _joined
from perception_batch.fusion.boxes import Words
from perception_batch.fusion.groups import Groups, in_doubt
from perception_batch.fusion.lens import ImageFrame, RayTables, box_rays
from perception_batch.geometry import SE3


def slow_groups(camera: list[int], share: np.ndarray, links: list[tuple[int, int]]) -> list[set[int]]:
    """Sets of boxes; two become one where no two of their boxes contradict each other."""
    groups = [{i} for i in range(len(camera))]
    for i, j in links:
        ours, theirs = (next(g for g in groups if k in g) for k in (i, j))
        fits = all(
            camera[k] != camera[m] and (not share[camera[k], camera[m]] or (min(k, m), max(k, m)) in links)
            for k in ours
            for m in theirs
        )
        if ours is not theirs and fits:
            groups.remove(theirs)
            ours |= theirs
    return groups


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_links_are_followed_as_far_as_they_agree(data: st.DataObject) -> None:
    camera = sorted(data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=9)))
    share = np.zeros((4, 4), bool)
    for a, b in data.draw(st.lists(st.sampled_from(list(combinations(range(4), 2))))):
        share[a, b] = share[b, a] = True
    pairs = [p for p in combinations(range(len(camera)), 2) if share[camera[p[0]], camera[p[1]]]]
    links = data.draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    found = _joined(np.array(camera, np.int64), share, links)
    slow = [group for group in slow_groups(camera, share, links) if len(group) > 1]
    assert sorted(map(sorted, found)) == sorted(map(sorted, slow))


def test_a_class_of_which_no_place_is_known_has_no_part() -> None:
    words = Words(np.array([0, 0, 0, 1]), np.array([2, 0, 1, 2]), np.array([0.6, 0.3, 0.2, 0.5]))
    groups = Groups.led(np.array([0, 1]), np.array([2, 2]), np.full(2, np.nan))
    row_as, rows = np.array([[0, 1, 2], [-1, -1, 3]]), np.array([2, 3])
    every = np.ones(4, bool)
    assert in_doubt(groups, words, groups.of, row_as, rows, every) == (
        [0],
        [([2, 0, 1], [0.6, 0.3, 0.2])],
    )
    without = in_doubt(groups, words, groups.of, row_as, rows, np.array([False, True, True, True]))
    assert without == ([0], [([2, 1], [0.6, 0.2])])
    for unknown in (2, 0):  # the decided class itself; or all but it
        known = np.array([unknown != 0, unknown != 0, unknown != 2, True])
        assert in_doubt(groups, words, groups.of, row_as, rows, known) == ([], [])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 20)] * 2, st.integers(0, 2)), max_size=12, min_size=1),
       st.sampled_from([0, 90, 180, 270]))  # fmt: skip
def test_edges_and_what_covers_them_box_by_box(
    rows: list[tuple[int, int, int, int, int]], roll_deg: int
) -> None:
    """Cameras level and looking ahead, turned about their axes: the low edge is another one each time."""
    rows.sort(key=lambda row: row[4])
    xyxy = np.array([(x, y, x + w, y + h) for x, y, w, h, _ in rows], float) * 10
    counts = [sum(row[4] == camera for row in rows) for camera in range(3)]
    ahead = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # base axes of the optical ones
    roll = np.radians(roll_deg)
    turn = np.array([[np.cos(roll), -np.sin(roll), 0.0], [np.sin(roll), np.cos(roll), 0.0], [0.0, 0.0, 1.0]])
    pose = SE3(ahead @ np.round(turn), np.array([1.0, 2.0, 3.0]))
    tables = RayTables()
    lens = tables.add(Intrinsics("pinhole", 500, 500, 300.0, 300.0, 249.5, 249.5))
    frame = ImageFrame.of(pose, lens, False, (0.0, 0.0, 500.0, 500.0))
    found = box_rays(xyxy, [frame] * 3, counts, tables)
    low = {0: 3, 90: 2, 180: 1, 270: 0}[roll_deg]
    assert frame.low == low
    for i, box in enumerate(xyxy):
        edge, across = box[low], box[(low + 2) % 4]
        middle = 0.5 * (box[:2] + box[2:])
        at = middle.copy()
        at[low % 2] = edge
        ray = pose.rotation @ np.array([(at[0] - 250) / 300, (at[1] - 250) / 300, 1.0])
        assert np.isclose(found.tan_low[i], ray[2] / np.hypot(ray[0], ray[1]))
        center = pose.rotation @ np.array([(middle[0] - 250) / 300, (middle[1] - 250) / 300, 1.0])
        assert np.isclose(found.azimuth_rad[i], np.arctan2(center[1], center[0]))
        assert found.height_px[i] == abs(edge - across)
        assert found.cut_low[i] == (edge <= 2 if low < 2 else edge >= 498)
        worst, sign = 0.0, -1.0 if low < 2 else 1.0
        side = 1 - low % 2
        for j, other in enumerate(xyxy):
            hair = 0.02 * sign * (edge - across)
            lower = sign * other[low] > sign * edge + hair and sign * other[(low + 2) % 4] < sign * edge
            if rows[i][4] == rows[j][4] and i != j and lower:
                both = min(box[side + 2], other[side + 2]) - max(box[side], other[side])
                worst = max(worst, both / (box[side + 2] - box[side]))
        assert np.isclose(found.low_covered[i], min(worst, 1.0))
