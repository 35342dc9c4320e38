"""The page of one run: what it says of a good run and of every bad one, and that names stay text."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report.report_run import CAMERAS, T0, write_run, write_table, write_video

from perception_batch.errors import ConfigError, LogError
from perception_batch.report import run_page as pages
from perception_batch.report.run_page import run_page

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&\x1b[31m\u202e"


class Parts(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = (dict(attrs).get("id") or "program") if tag == "script" else None
        if tag == "style":
            self._script = "style"

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.text += data
        else:
            self.scripts[self._script] = data

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_the_page_tells_the_run(tmp_path: Path) -> None:
    parts = Parts(run_page(write_run(tmp_path / "drive")))
    text = parts.text.replace("\u00a0", " ")
    assert "3.0 s of drive with 2 cameras gave 15 timesteps and 28 objects in 2 tracks" in text
    assert "2 frames were lost" in text
    assert "13.3 % of the timesteps lack a camera" in text
    assert "broken_jpeg" in text
    assert "The others waited longest for detect." in text
    for title in ("Timeline", "Worst moments", "Cameras", "Synchronisation", "Losses", "Profile"):
        assert title in text
    pictures = parts.of("img")
    assert pictures
    for picture in pictures:
        assert str(picture["src"]).startswith("data:image/jpeg;base64,")
        assert picture["alt"]
    facts = json.loads(parts.scripts["facts"])
    assert facts["steps"] == 15
    assert facts["cameras"] == list(CAMERAS)
    assert facts["labels"] == [{"name": "car", "color": "#3182bd"}]
    assert facts["tracks"] == [7, 8]


@pytest.mark.parametrize("version", ["now", "before", "nothing used"])
def test_how_good_the_pictures_are(tmp_path: Path, version: str) -> None:
    directory = write_run(tmp_path / "drive", missing=())
    path = directory / "frames.parquet"
    frames = pq.read_table(path)
    names = ("sharpness", "dark_share", "bright_share")
    if version == "now":
        back = np.array(frames["camera"].to_pylist()) == "back"
        values = (np.where(back, 120.0, 800.0), np.where(back, 0.6, 0.0), np.where(back, 0.0, 0.125))
        for name, column in zip(names, values, strict=True):
            place = frames.schema.get_field_index(name)
            frames = frames.set_column(place, frames.schema.field(place), pa.array(column, pa.float32()))
    elif version == "before":
        frames = frames.drop_columns(list(names))
    pq.write_table(frames, path)
    page = Parts(run_page(directory))
    assert ("How good each camera's pictures are" in page.text) == (version == "now")
    assert ("back" + "120" * 2 + "60.0" + "0.0" in page.text) == (version == "now")
    assert ("front" + "800" * 2 + "0.0" + "12.5" in page.text) == (version == "now")
    assert "damaged" not in page.text


def test_a_bottleneck_that_the_run_names_is_taken(tmp_path: Path) -> None:
    timing = {
        "wall_s": 4.0,
        "images_per_s": 7.5,
        "stages": {"read": {"busy_s": 1.0, "items": 3}},
        "bottleneck": "read: the disk",
    }
    run = write_run(tmp_path / "drive", changes={"timing": timing}, video=False)
    assert "read: the disk" in Parts(run_page(run)).text


def test_nothing_is_asked_of_anybody(tmp_path: Path) -> None:
    page = run_page(write_run(tmp_path / "drive"))
    parts = Parts(page)
    sources = [
        value for _, attributes in parts.tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert {str(s) for s in sources if not str(s).startswith("data:")} == {"annotated.mp4"}
    assert not parts.of("link")
    policy = next(str(m["content"]) for m in parts.of("meta") if m.get("http-equiv"))
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    assert allowed["default-src"] == "'none'"
    assert allowed["img-src"] == "data:"
    for rule, script in (("script-src", "program"), ("style-src", "style")):
        digest = base64.b64encode(hashlib.sha256(parts.scripts[script].encode()).digest()).decode()
        assert allowed[rule] == f"'sha256-{digest}'"
    assert not any(
        name.startswith("on") or name == "style" for _, attributes in parts.tags for name in attributes
    )


def test_names_from_the_log_stay_text(tmp_path: Path) -> None:
    losses = [{"topic": HOSTILE, "start_ns": T0, "stop_ns": 0, "count": 1, "reason": HOSTILE}]
    changes = {"losses": losses, "argv": [HOSTILE], "device": HOSTILE, "host": HOSTILE, "config": {HOSTILE: [HOSTILE]},
               "versions": {HOSTILE: HOSTILE}, "model": {"backend": HOSTILE, "path": HOSTILE},
               "sync": {"anchor": HOSTILE, "reference": HOSTILE, "cameras": {HOSTILE: {}, "b": {}}},
               "timing": {"wall_s": 1.0, "stages": {HOSTILE: {"busy_s": 1.0, "items": 1}}, "waits": {HOSTILE: {}}}}  # fmt: skip
    plain = Parts(run_page(write_run(tmp_path / "plain")))
    run = write_run(
        tmp_path / "odd", drive=HOSTILE, cameras=(HOSTILE, "b"), labels=(HOSTILE, "car"), changes=changes
    )
    parts = Parts(run_page(run))
    assert not [a for a in parts.of("img") if not str(a["src"]).startswith("data:")]
    assert len(parts.of("script")) == len(plain.of("script"))
    assert not any("onerror" in attributes for _, attributes in parts.tags)
    assert "<img src=x onerror=alert(1)>" in parts.text  # as text
    assert "\x1b" not in parts.text
    assert "\u202e" not in parts.text
    facts = json.loads(parts.scripts["facts"])
    assert facts["cameras"][0] == HOSTILE
    assert HOSTILE in [label["name"] for label in facts["labels"]]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("no video", "There is no video"),
        ("no rig", "rig.json is missing"),
        ("no timesteps", "timesteps.parquet is missing"),
        ("manifest", "run.json is damaged"),
        ("manifest is a list", "run.json is damaged"),
        ("half a video", "annotated.mp4 cannot be shown"),
        ("another video", "The video has 3\u00a0pictures for 15\u00a0timesteps"),
        ("unfinished", "The run is unfinished"),
        ("nothing found", "there are no objects"),
        ("stamps", "its stamps do not rise"),
        ("other columns", "tracks.parquet is damaged"),
    ],
)
def test_a_bad_run_says_what_it_has(tmp_path: Path, damage: str, words: str) -> None:
    changes = {"status": "unfinished", "counts": {}, "timing": {}} if damage == "unfinished" else {}
    run = write_run(tmp_path / "drive", found=damage != "nothing found", changes=changes)
    film = run / "annotated.mp4"
    if damage == "no video":
        film.unlink()
    elif damage == "no rig":
        (run / "rig.json").unlink()
    elif damage == "no timesteps":
        (run / "timesteps.parquet").unlink()
    elif damage == "manifest":
        (run / "run.json").write_bytes((run / "run.json").read_bytes()[:300])
    elif damage == "manifest is a list":
        (run / "run.json").write_text("[1]")
    elif damage == "half a video":
        film.write_bytes(film.read_bytes()[:200])
    elif damage == "another video":
        write_video(film, 3)
    elif damage == "unfinished":
        for name in ("objects", "tracks"):
            (run / f"{name}.parquet").unlink()
    elif damage == "stamps":
        columns = {"timestep": [0, 1], "stamp_ns": [T0 + 5, T0], "camera": ["a", "a"], "status": ["ok", "ok"]}
        write_table(run, "timesteps", columns)
    elif damage == "other columns":
        (run / "tracks.parquet").write_bytes((run / "rig.json").read_bytes())
    parts = Parts(run_page(run))
    assert words in parts.text
    if damage not in ("no timesteps", "stamps"):
        assert parts.of("canvas") or damage in ("nothing found", "unfinished")
        assert "Timeline" in parts.text


@pytest.mark.parametrize("name", ["timesteps", "objects", "frames", "ego", "tracks"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_cut_table_is_named_and_the_rest_shown(tmp_path: Path, name: str, kept: float) -> None:
    run = write_run(tmp_path / "drive", video=False)
    table = run / f"{name}.parquet"
    table.write_bytes(table.read_bytes()[: int(kept * table.stat().st_size)])
    parts = Parts(run_page(run))
    assert f"{name}.parquet is damaged" in parts.text
    assert "Profile" in parts.text


@pytest.mark.parametrize("steps", [1, 2])
def test_the_shortest_drives(tmp_path: Path, steps: int) -> None:
    parts = Parts(run_page(write_run(tmp_path / "drive", steps=steps)))
    assert json.loads(parts.scripts["facts"])["steps"] == steps


@pytest.mark.parametrize(
    "changes",
    [
        {
            "counts": [],
            "sync": 3,
            "timing": "fast",
            "losses": {"a": 1},
            "config": None,
            "log": [],
            "model": 1,
        },
        {"counts": {"timesteps": -5, "objects": 1e400, "frames_in_log": "x"}, "versions": [1], "argv": 5},
        {"losses": [{"start_ns": 1e30, "stop_ns": "x", "count": -3}, {"start_ns": 1 << 80}, 5], "drive": 7},
        {
            "timing": {"wall_s": 1.0, "stages": {"read": 5}, "waits": 7},
            "calibration": {"camera_pitch_deg": {"front": "x"}},
        },
        {
            "log": {"start_ns": (1 << 62) + 5, "stop_ns": 5},
            "config": {"ontology": {"car": {"color": "url(x)"}}},
        },
    ],
)
def test_a_manifest_of_nonsense_is_no_crash(tmp_path: Path, changes: dict[str, object]) -> None:
    parts = Parts(run_page(write_run(tmp_path / "drive", video=False, changes=changes)))
    assert "Timeline" in parts.text
    assert "url(x)" not in parts.scripts["facts"]


def test_no_run_and_a_newer_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"run\.json is missing"):
        run_page(tmp_path)
    with pytest.raises(LogError, match="newer"):
        run_page(write_run(tmp_path / "drive", changes={"schema": 99}))


def test_ten_minutes_of_six_cameras_stay_small(tmp_path: Path) -> None:
    cameras = ("front", "front_left", "front_right", "back", "back_left", "back_right")
    run = write_run(tmp_path / "drive", steps=6000, cameras=cameras, video=False)
    rng = np.random.default_rng(0)
    step, slot = (a.ravel() for a in np.meshgrid(np.arange(6000), np.arange(30), indexing="ij"))
    track = slot + 30 * (step // 75)
    begin, speed = rng.uniform(-60, 60, (track.max() + 1, 2)), rng.normal(0, 5, (track.max() + 1, 2))
    place = begin[track] + speed[track] * (step % 75)[:, None] * 0.1 + rng.normal(0, 0.05, (len(step), 2))
    sigma = rng.uniform(0.5, 4, track.max() + 1)[track] * rng.uniform(0.98, 1.02, len(step))
    columns = {
        "timestep": step, "track_id": track, "label": np.array(["car", "person", "truck"])[track % 3], "score": rng.uniform(0.25, 1, len(step)),
        "x_m": place[:, 0], "y_m": place[:, 1], "vx_mps": speed[track, 0], "vy_mps": speed[track, 1], "yaw_rad": rng.uniform(-3, 3, len(step)),
        "length_m": np.full(len(step), 4.6), "width_m": np.full(len(step), 1.9), "cov_xx": sigma**2, "cov_xy": 0.3 * sigma**2, "cov_yy": 0.5 * sigma**2,
    }  # fmt: skip
    write_table(run, "objects", columns)
    page = run_page(run)
    assert json.loads(Parts(page).scripts["facts"])["every"] == 1
    assert (
        len(page.encode()) < 4_000_000
    )  # pictures and what real drives have more of fit into the 8 MB that are the limit


def test_the_video_can_be_put_into_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "drive")
    parts = Parts(run_page(run, embed_video=True))
    assert base64.b64decode(parts.scripts["film-data"]) == (run / "annotated.mp4").read_bytes()
    assert [film.get("src") for film in parts.of("video")] == [None]
    monkeypatch.setattr(pages, "_MAX_EMBEDDED_BYTES", 1000)
    with pytest.raises(ConfigError, match="--embed-video"):
        run_page(run, embed_video=True)
