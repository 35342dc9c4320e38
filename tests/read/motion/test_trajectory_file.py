"""Ego motion from a file: exact stamps, TUM and CSV, errors, and how it joins the frames."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_writer import START_NS, CameraSpec, write_log

from perception_batch.config import ReadConfig, load_config
from perception_batch.errors import ConfigError
from perception_batch.read import open_log
from perception_batch.read.motion.report import EgoReport
from perception_batch.read.motion.trajectory_file import TrajectoryFile, merged_by_stamp, stamp_ns_of
from perception_batch.types import EgoPose, EncodedFrame, StillPayload

S = 1_000_000_000


def seconds(stamp_ns: int) -> str:
    """A stamp as decimal seconds, nine digits."""
    return f"{stamp_ns // S}.{stamp_ns % S:09d}"


def tum(n: int = 60, rate_hz: float = 20.0, start_ns: int = START_NS - S) -> str:
    """A vehicle that drives along x at 4 m/s, 0 at START_NS."""
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    for i in range(n):
        at = start_ns + round(i * 1e9 / rate_hz)
        lines.append(f"{seconds(at)} {4 * (start_ns - START_NS) / 1e9 + 4 * i / rate_hz:.6f} 1 2 0 0 0 1")
    return "\n".join(lines) + "\n"


def written(tmp_path: Path, text: str, name: str = "path.txt") -> Path:
    tmp_path.mkdir(parents=True, exist_ok=True)
    path = tmp_path / name
    path.write_text(text)
    return path


def poses_of(path: Path) -> list[EgoPose]:
    return list(TrajectoryFile(path).poses())


# ---------------------------------------------------------------------- stamps


@given(st.integers(0, 4_000_000_000), st.integers(0, S - 1), st.integers(0, 9), st.booleans())
def test_decimal_seconds_are_exact(whole: int, rest: int, digits: int, scientific: bool) -> None:
    """Against fractions; a float would be off by up to 238 ns."""
    text = f"{whole}.{rest:09d}"[: len(str(whole)) + 1 + digits]
    exact = Fraction(text if not text.endswith(".") else text[:-1])
    if scientific:
        text = f"{Decimal(text):e}"
    assert stamp_ns_of(text) == round(exact * S)


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("1403636579.763555527", "", 1403636579763555527),
        ("1.403636579763555527e+09", "", 1403636579763555527),
        (" 1403636579 ", "", 1403636579 * S),
        ("1403636579763555527", "", 1403636579763555527),  # an integer this large is ns
        ("1403636579763555527", "ns", 1403636579763555527),
        ("12", "ns", 12),
        ("-0.5", "", -500_000_000),
        ("0", "", 0),
        ("0e999999999", "", 0),
        ("1e-999999999", "", 0),
        ("1.0000000005", "", 1_000_000_000),  # half to even
        ("1.0000000015", "", 1_000_000_002),
    ],
)
def test_stamps(text: str, unit: str, expected: int) -> None:
    assert stamp_ns_of(text, unit) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "nan", "inf", "sNaN", "1e999999999", "1403636579763", "9" * 100, "1 2"]
)
def test_what_is_no_stamp(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        stamp_ns_of(text)


@given(st.text(max_size=70))
@settings(max_examples=300)
def test_any_text_is_a_stamp_or_an_error(text: str) -> None:
    try:
        assert abs(stamp_ns_of(text)) < 2**63
    except ValueError as error:
        assert str(error).isprintable()


# ---------------------------------------------------------------------- forms

ROW = ("1700000000.5", "1", "2", "3", "0", "0", "0.6", "0.8")


def csv(names: str, *order: int, comma: str = ",", stamp: str = ROW[0]) -> str:
    row = [stamp, *ROW[1:]]
    return names + "\n" + comma.join(row[i] for i in order) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        " ".join(ROW),
        "# a comment, with a comma\n\n" + "\t".join(ROW) + "\n",
        csv("timestamp,x_m,y_m,z_m,qx,qy,qz,qw", *range(8)),
        csv("qw;qz;qy;qx;z;y;x;time", 7, 6, 5, 4, 3, 2, 1, 0, comma=";"),
        csv("drive,stamp_ns,x_m,y_m,z_m,qx,qy,qz,qw", 1, *range(8), stamp="1700000000500000000"),
        csv('"timestamp" , "tx", "ty", "tz", "qx", "qy", "qz", "qw"', *range(8)),
        # EuRoC: a comment names the columns, w comes first, ns
        csv("#timestamp [ns],p_RS_R_x [m],p_RS_R_y [m],p_RS_R_z [m],q_RS_w [],q_RS_x [],q_RS_y [],q_RS_z []",
            0, 1, 2, 3, 7, 4, 5, 6, stamp="1700000000500000000"),
        "# made by someone\n" + csv("t,x,y,z,qx,qy,qz,qw", *range(8)),
        "\ufeff" + csv("time,x,y,z,qx,qy,qz,qw", *range(8)),
    ],
)  # fmt: skip
def test_forms(tmp_path: Path, text: str) -> None:
    (pose,) = poses_of(written(tmp_path, text))
    assert (pose.stamp_ns, pose.frame_id, pose.source) == (1_700_000_000_500_000_000, "world", "path.txt")
    assert pose.odom_SE3_base.translation_m.tolist() == [1, 2, 3]
    assert pose.odom_SE3_base.quaternion_xyzw() == pytest.approx([0, 0, 0.6, 0.8])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no pose"),
        ("# only a comment\n", "holds no pose"),
        ("x,y\n1,2\n", "no column for stamp"),
        (
            "timestamp,x,y,z\n1,2,3,4\n",
            r"no column for qx \(such as qx, q_x, q_rs_x\); it has timestamp, x, y, z",
        ),
        ("1.0,2,3,4,0,0,0,1\n", "no line of names"),
        ("hello world\n", "neither TUM"),
        ("1 2 3 4\n", "line 1: 4 values, expected 8"),
        (tum(3) + "1 2 3 4 0 0 0 0\n", "line 5: no pose"),
        ("1 nan 3 4 0 0 0 1\n", "line 1: no pose: a number is not finite"),
        ("1 1e30 3 4 0 0 0 1\n", "out of all bounds"),
        ("soon 2 3 4 0 0 0 1\n", "neither TUM"),
        ("1403636579763 2 3 4 0 0 0 1\n", "is no time in seconds"),
        (csv("time,x,y,z,qx,qy,qz,qw", *range(7)), "line 2: 7 values, expected at least 8"),
        ("1 " * 10_000, "line 1"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        TrajectoryFile(written(tmp_path, text))
    assert "path.txt" in str(caught.value)
    assert str(caught.value).isprintable()


def test_no_file_a_folder_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"read.trajectory: .*no such trajectory file"):
        TrajectoryFile(tmp_path / "nope")
    with pytest.raises(ConfigError, match="a folder"):
        TrajectoryFile(tmp_path)
    path = tmp_path / "x"
    path.write_bytes(b"\xff\xfe\x00\x01" * 10)
    with pytest.raises(ConfigError, match="not a text file"):
        TrajectoryFile(path)


def test_damage_further_on_is_counted(tmp_path: Path) -> None:
    lines = tum(3000, 100.0).splitlines()
    lines[2000] = "rubbish"
    lines[2001] = "9" * 100_000
    lines[2002] = lines[1999]
    lines[-1] = lines[-1][:20]  # cut off
    path = written(tmp_path, "\n".join(lines))
    path.write_bytes(path.read_bytes().replace(b"rubbish", b"rub\xff\xfeish"))
    file = TrajectoryFile(path)
    assert file.last_ns == START_NS - S + 2998 * S // 100
    assert len(list(file.poses())) == 2996
    assert (file.bad_lines, file.sequence.dropped) == (3, 1)
    report = file.report(None, 0.5, sampled=False)
    assert (report.bad, report.poses, report.dropped) == (3, 2996, 1)
    assert "3 lines are no pose" in report.notes[0]


# ---------------------------------------------------------------------- with a log


def read(
    tmp_path: Path, text: str, cameras: Any = None, **config: Any
) -> tuple[list[Any], EgoReport, EgoReport]:
    file = written(tmp_path, text)
    specs = cameras or [CameraSpec("a", size=(16, 12)), CameraSpec("b", size=(16, 12), phase_ms=30)]
    path = write_log(tmp_path, "mcap", specs, frames=10, ego_speed_mps=9.0)
    with open_log([path], ReadConfig(trajectory=str(file), **config)) as log:
        names = log.select(None)
        log.rig(names)
        before = log.ego_report
        items = list(log.stream(names))
        return items, before, log.ego_report


def test_the_file_goes_over_the_log_and_surrounds_every_frame(tmp_path: Path) -> None:
    items, before, after = read(tmp_path, tum())
    poses = [x for x in items if isinstance(x, EgoPose)]
    assert {p.source for p in poses} == {"path.txt"}
    assert (before.source, before.kind, before.sampled) == ("path.txt", "file", True)
    assert after.poses - len(poses) in (0, 1), "one is read ahead"
    assert (after.notes, after.rate_hz) == ((), pytest.approx(20, rel=1e-6))
    assert poses[0].stamp_ns < START_NS
    for pose in poses:
        assert pose.odom_SE3_base.translation_m[0] == pytest.approx(
            4 * (pose.stamp_ns - START_NS) / 1e9, abs=1e-5
        )
    for i, item in enumerate(items):
        if isinstance(item, EncodedFrame):
            known = [x.stamp_ns for x in items[:i] if isinstance(x, EgoPose)]
            assert min(known) <= item.stamp_ns < max(known), "both neighbours come before the frame"
    assert len([x for x in items if isinstance(x, EncodedFrame)]) == 20


@pytest.mark.parametrize("offset_s", [3600.0, -18.0, 12345.6])
def test_times_that_do_not_meet_are_told_and_can_be_set_right(tmp_path: Path, offset_s: float) -> None:
    shifted = tum(40, start_ns=START_NS - S // 2 + round(offset_s * S))
    items, _, after = read(tmp_path, shifted)
    (note,) = after.notes
    assert "no pose fits" in note
    assert ("after" if offset_s > 0 else "before") in note
    if offset_s != 12345.6:
        advised = float(note.split("read.ego_offset_ms: ")[1].split(" ")[0])
        assert advised == -offset_s * 1e3
        items, _, after = read(tmp_path / "2", shifted, ego_offset_ms=advised)
        assert after.notes == ()
        assert any(isinstance(x, EgoPose) for x in items)


def test_a_long_file_gives_only_what_the_log_needs(tmp_path: Path) -> None:
    items, _, after = read(tmp_path, tum(20 * 600, start_ns=START_NS - 300 * S))
    stamps = [x.stamp_ns for x in items if isinstance(x, EgoPose)]
    assert START_NS - 3 * S <= min(stamps) < START_NS
    assert START_NS + S < max(stamps) <= START_NS + 2 * S
    assert after.poses == pytest.approx(len(stamps), abs=1)


def test_with_another_source_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave ego at auto"):
        load_config(None, ["read.trajectory=a.txt", "read.ego=tf"])


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.booleans()), max_size=30),
    st.lists(st.integers(-2000, 5000), max_size=60, unique=True),
    st.sampled_from([0, 100, 500]),
)
def test_merging_keeps_all_frames_and_orders_poses(
    frames: list[tuple[int, bool]], stamps: list[int], ahead: int
) -> None:
    """Times in ms. Every pose up to `ahead` after a frame comes before it; frames stay as they are."""
    from perception_batch.geometry import SE3

    ms = 1_000_000
    sources: list[EncodedFrame | EgoPose] = [
        EncodedFrame(
            "a", t * ms, t * ms, StillPayload(b""), "jpeg", i, 1, 1, t * ms, "" if ok else "bad_stamp"
        )
        for i, (t, ok) in enumerate(frames)
    ]

    def unknown() -> Any:
        import numpy as np

        return np.full(3, np.nan)

    poses = [EgoPose(t * ms, "world", SE3.identity(), unknown(), "f") for t in sorted(stamps)]
    asked: list[int] = []

    def poses_from(from_ns: int) -> Any:
        asked.append(from_ns)
        return (p for p in poses if p.stamp_ns >= from_ns)

    merged = list(merged_by_stamp(sources, poses_from, ahead * ms, margin_ns=1000 * ms))
    assert [x for x in merged if isinstance(x, EncodedFrame)] == sources
    good = [t for t, ok in frames if ok]
    assert len(asked) == bool(good)
    given_ns = [x.stamp_ns for x in merged if isinstance(x, EgoPose)]
    if good:
        low, high = (good[0] - ahead - 1000) * ms, (max(good) + ahead) * ms
        assert given_ns == [p.stamp_ns for p in poses if low <= p.stamp_ns <= high]
    seen = -(10**18)
    for item in merged:
        if isinstance(item, EgoPose):
            seen = item.stamp_ns
        elif item.stamp_ok:
            later = [p.stamp_ns for p in poses if asked[0] <= p.stamp_ns <= item.stamp_ns + ahead * ms]
            assert not later or later[-1] <= seen
