"""The training views of the built-in detector show what their boxes say, and a training that is stopped goes on."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import demo_model_pictures as pictures_of
from demo_model_pictures import CLASSES, IGNORED, Views, from_drives, from_yolo_set, gather

BOX = (300.0, 180.0, 348.0, 220.0)


def _picture(box: tuple[float, float, float, float] = BOX) -> bytes:
    """Grey, with a bright green rectangle: a corner of the rectangle is a corner of pixels."""
    image = np.full((400, 640, 3), 40, np.uint8)
    left, top, right, bottom = (int(v) for v in box)
    image[top:bottom, left:right] = (0, 255, 0)
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_boxes_lie_on_what_they_name(whole: bool, seed: int) -> None:
    views = Views(gather([_picture()], [np.array([BOX])], [np.array([2])]))
    rng = np.random.default_rng(seed)
    size = (640, 416) if whole else (384, 256)
    image, box, kind = views.draw(rng, size, whole=whole)
    assert image.shape == (size[1], size[0], 3)
    green = image[:, :, 1].astype(int) - image[:, :, 0] > 80
    if not len(box):
        assert not green.any()
        return
    rows, columns = np.flatnonzero(green.any(1)), np.flatnonzero(green.any(0))
    shown = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    np.testing.assert_allclose(box[0], shown, atol=1.0)
    assert kind[0] in (2, IGNORED)


def test_what_the_window_cuts_off_is_ignored() -> None:
    box = np.array([[-50, 10, 10, 60], [100, 100, 160, 140], [200, 100, 230, 106]], np.float32)
    seen, kind = pictures_of._seen(box, np.array([2, 2, 2]), 1.0, 1.0, np.zeros(2), (384, 256))
    assert kind.tolist() == [IGNORED, 2, IGNORED]
    assert seen[0].tolist() == [0, 10, 10, 60]


def test_mirrored_boxes_stay_boxes() -> None:
    box = np.array([[100, 100, 160, 140]], np.float32)
    seen, _ = pictures_of._seen(box, np.array([2]), -1.0, 1.0, np.array([384.0, 0.0]), (384, 256))
    assert seen[0].tolist() == [224, 100, 284, 140]


def test_rare_classes_are_drawn_more_often_than_they_occur() -> None:
    boxes = [np.array([BOX])] * 50
    kinds = [np.array([2])] * 49 + [np.array([4])]
    views = Views(gather([_picture()] * 50, boxes, kinds))
    rng = np.random.default_rng(0)
    found = [k for _ in range(150) for k in views.draw(rng, (96, 64), whole=False)[2].tolist()]
    assert found.count(4) > 0.05 * len(found)  # one in 50, were there no choice


def test_a_training_set_of_the_label_program_is_read_with_its_doubts(tmp_path: Path) -> None:
    for part in ("images/train", "labels/train"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "images/train/a.png").write_bytes(_picture())
    (tmp_path / "images/train/b.png").write_bytes(_picture())
    (tmp_path / "labels/train/a.txt").write_text("1 0.50625 0.5 0.075 0.1\n")
    (tmp_path / "labels/train/b.txt").write_text("")
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: {0: unheard of, 1: car}\n")
    doubt = {"images/train/b.png": [{"label": "car", "box_px": [1, 2, 30, 40]}]}
    (tmp_path / "ignored.json").write_text(json.dumps({"about": "", "images": doubt}))
    read = from_yolo_set(tmp_path)
    np.testing.assert_allclose(read.box_px, [BOX, (1, 2, 30, 40)], atol=1e-3)
    assert read.class_index.tolist() == [CLASSES.index("car"), IGNORED]
    assert read.first_row.tolist() == [0, 1, 2]


def test_drives_give_the_boxes_of_their_truth(tmp_path: Path) -> None:
    from perception_batch.simulate.drive import simulate
    from perception_batch.simulate.settings import SimulateSettings

    settings = SimulateSettings(
        preset="front", duration_s=1, rate_hz=2, size_px=(320, 200), seed=3, container="foxglove"
    )
    simulate(tmp_path / "drive", settings)
    read = from_drives([tmp_path / "drive"], min_height_px=8, min_visible=0.5)
    strict = from_drives([tmp_path / "drive"], min_height_px=1000)
    assert len(read) == 2
    assert len(read.box_px) == len(strict.box_px) > 0
    assert (read.class_index >= 0).any()
    assert (strict.class_index == IGNORED).all()
    assert pictures_of.decode(read.data[0]).shape == (200, 320, 3)
    first = ("drive", "cam_front", 1_760_000_000_123_456_789)
    assert from_drives([tmp_path / "drive"], only={first}).data == read.data[:1]


def test_a_training_that_was_stopped_goes_on_as_it_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import demo_model_training as training
    import torch

    from perception_batch.detect.torch_backend import labels_of, load_network

    monkeypatch.setattr(training, "SCALE", (0.33, 0.0625, 128))
    monkeypatch.setattr(training, "WINDOW_WH", (96, 64))
    monkeypatch.setattr(training, "WINDOWS", 2)
    pictures = gather([_picture()] * 3, [np.array([BOX])] * 3, [np.array([2])] * 3)
    plan = training.Plan(steps=4, whole_share=0, last_whole_share=0)
    threads = torch.get_num_threads()
    try:
        straight = training.Trainer(plan, pictures)
        for _ in range(4):
            straight.one_step()
        first = training.Trainer(plan, pictures)
        first.one_step()
        first.one_step()
        first.save(tmp_path / "last.pt")
        second = training.Trainer(plan, pictures)
        training.train(second, tmp_path, lambda network: {"ap50": float(network.training)})
        for a, b in zip(straight.mean.state_dict().values(), second.mean.state_dict().values(), strict=True):
            assert torch.equal(a, b)
        assert json.loads((tmp_path / "curve.jsonl").read_text())["ap50"] == 0.0
        with pytest.raises(ValueError, match="another plan"):
            training.Trainer(training.Plan(steps=4, seed=1), pictures).load(tmp_path / "last.pt")
        training.write_weights(second.mean, tmp_path / "weights.pt")
        network, _, form = load_network(tmp_path / "weights.pt")
        assert form == "dense"
        assert labels_of(network, tmp_path) == dict(enumerate(CLASSES))
    finally:
        torch.set_num_threads(threads)


def test_places_to_ignore_teach_nothing() -> None:
    import demo_model_training as training
    import torch

    weight = training._open_weight(
        [torch.Size((8, 8))], [8.0], [torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.zeros(0, 4)]
    )
    open_cells = weight[0, :, 0].reshape(8, 8)
    assert not open_cells[:2, :2].any()
    assert open_cells[3:, :].all()
    assert weight[1].all()
    entropy = training._ForgivingBCE()
    entropy.weight = weight
    scores = torch.full((2, 64, 1), 5.0)
    targets = torch.zeros(2, 64, 1)
    targets[0, 0] = 1.0
    out = entropy(scores, targets)
    assert out[0, 0] > 0  # what is taught there is taught
    assert out[0, 1] == 0
    assert out[1, 1] > 4
