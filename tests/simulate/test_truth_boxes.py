"""The pictures of a truth folder as boxes."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulate.truth_rows import HW, SPEED_MPS, STAGGER, STEP, T0, Rows, box_of, rig, rows_of, write_folder

from perception_batch.errors import LogError
from perception_batch.simulate.detector_noise import CorrelatedNoise, NoiseSettings, noise_detections
from perception_batch.simulate.truth_boxes import truth_images


def test_every_picture_with_its_visible_boxes(tmp_path: Path) -> None:
    images = list(truth_images(write_folder(tmp_path / "truth", rows_of())))
    assert [(i.timestep, getattr(i.camera, "name", "")) for i in images] == [
        (c, n) for c in range(4) for n in "ab"
    ]
    for image in images:
        name = getattr(image.camera, "name", "")
        assert [b.object_id for b in image.boxes] == ([1, 2, 3] if name == "a" else [1, 2])
        assert [b.box_px for b in image.boxes] == [box_of(b.object_id) for b in image.boxes]
        assert image.stamp_ns == T0 + image.timestep * STEP + STAGGER[name]
        assert (image.image_hw, image.camera) == (HW, rig().cameras[name]) or image.image_hw == HW
        assert image.odom_SE3_base is not None
        # The last cycle has no pose after it: the vehicle stays at its last one.
        seconds = min((image.true_ns - T0) / 1e9, 0.3)
        assert image.odom_SE3_base.translation_m[0] == pytest.approx(SPEED_MPS * seconds)


def test_clean_noise_gives_the_table_back(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "truth", rows_of())
    found = list(noise_detections(truth_images(folder), CorrelatedNoise(0, NoiseSettings.clean())))
    assert len(found) == 8
    for _, camera, detections in found:
        assert detections.xyxy.tolist() == [list(box_of(k)) for k in ((1, 2, 3) if camera == "a" else (1, 2))]


def test_pictures_not_in_the_log_are_left_out_and_empty_ones_are_not(tmp_path: Path) -> None:
    def change(rows: Rows) -> None:
        rows["timesteps"][0]["messages"] = 0
        rows["boxes"] = [r for r in rows["boxes"] if r["cycle"] not in (0, 2)]

    images = list(truth_images(write_folder(tmp_path / "truth", rows_of(), change)))
    assert [len(i.boxes) for i in images] == [0, 3, 2, 0, 0, 3, 2]


def test_damage_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="cannot be read"):
        list(truth_images(tmp_path))
    folder = write_folder(tmp_path / "truth", rows_of())
    (folder / "boxes.parquet").write_bytes(b"PAR1")
    with pytest.raises(LogError, match=r"boxes\.parquet"):
        list(truth_images(folder))

    def lost(rows: Rows) -> None:
        rows["timesteps"][1]["messages"] = 0

    with pytest.raises(LogError, match="belong to no picture"):
        list(truth_images(write_folder(tmp_path / "other", rows_of(), lost)))
    (folder / "meta.json").write_text("{}")
    with pytest.raises(LogError, match="no `rig`"):
        list(truth_images(folder))
