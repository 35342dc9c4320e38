"""`run.json` is whole, plain and refused when it is not ours."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.errors import CalibrationError, LogError
from perception_batch.geometry import SE3
from perception_batch.write import Manifest, read_manifest, read_rig, write_manifest, write_rig

KEYS = (
    "schema drive status log config model versions device host argv created_utc finished_utc exit_status batch_size "
    "counts sync calibration ego timing losses"
)


def test_there_and_back(tmp_path: Path) -> None:
    manifest = Manifest(
        "d",
        "complete",
        log={"paths": [Path("a.bag")], "start_ns": 1_700_000_000_123_456_789},
        timing={"wall_s": np.float64(1.5), "images_per_s": math.nan},
        model={"input_hw": [(384, 640)]},
        exit_status=0,
    )
    path = write_manifest(tmp_path, manifest)
    assert set(json.loads(path.read_text())) >= set(KEYS.split())
    back = read_manifest(tmp_path)
    assert back.log == {"paths": ["a.bag"], "start_ns": 1_700_000_000_123_456_789}
    assert back.timing == {"wall_s": 1.5, "images_per_s": None}
    assert back.model == {"input_hw": [[384, 640]]}
    assert (back.status, back.exit_status, list(back.losses)) == ("complete", 0, [])
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a run's manifest"),
        ("[]", "no `schema`"),
        ('{"schema": 2}', "newer version"),
        ('{"schema": 1, "drive": "d", "status": "great"}', "status is 'great'"),
        ('{"schema": 1, "drive": "d", "status": "failed", "counts": 3}', "counts is a int"),
        ("[" * 100_000, "not a run's manifest"),
    ],
    ids=["empty", "list", "newer", "status", "counts", "deep"],
)
def test_what_is_no_manifest(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(LogError, match=message):
        read_manifest(tmp_path)


def test_rig_there_and_back(tmp_path: Path) -> None:
    lens = Intrinsics("pinhole", 640, 480, 500.0, 500.0, 319.5, 239.5)
    rig = Rig("base_link", {"c": Camera("c", lens, SE3.identity(), "file")}, {"d": "no CameraInfo"}, 0.1)
    write_rig(tmp_path, rig.to_dict())
    back = read_rig(tmp_path)
    assert back.to_dict() == rig.to_dict()
    (tmp_path / "rig.json").write_text('{"cameras": {"c": {}}}')
    with pytest.raises(CalibrationError, match="c: "):
        read_rig(tmp_path)
    (tmp_path / "rig.json").write_text("?")
    with pytest.raises(LogError, match="no rig"):
        read_rig(tmp_path)
