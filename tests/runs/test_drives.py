"""Which drives a command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from perception_batch.errors import ConfigError, LogError
from perception_batch.runs import find_drives


def tree(root: Path, *names: str) -> Path:
    """Empty files; a name that ends with / is a folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def found(root: Path, *paths: Path, **options: object) -> dict[str, list[str]]:
    drives = find_drives(paths or (root,), **options)  # type: ignore[arg-type]
    return {d.name: [str(p.relative_to(root)) for p in d.paths] for d in drives}


def test_a_file_is_a_drive_whatever_its_ending(tmp_path: Path) -> None:
    tree(tmp_path, "monday.bag", "clip.mp4", "odd")
    assert found(tmp_path, *(tmp_path / n for n in ("monday.bag", "clip.mp4", "odd"))) == {
        "monday": ["monday.bag"],
        "clip": ["clip.mp4"],
        "odd": ["odd"],
    }


def test_a_bag_folder_is_a_drive_and_is_not_searched(tmp_path: Path) -> None:
    tree(tmp_path, "run.1/metadata.yaml", "run.1/a_0.mcap", "run.1/inner/b.bag")
    assert found(tmp_path, tmp_path / "run.1") == {"run.1": ["run.1"]}
    assert found(tmp_path) == {"run.1": ["run.1"]}


def test_a_folder_is_searched_in_sorted_order(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "b.bag",
        "a.mcap",
        "notes.txt",
        "z/bag/metadata.yaml",
        "m/deep/er/c.db3",
        "empty/",
        "a.mcap.part",
    )
    assert list(found(tmp_path).items()) == [
        ("a", ["a.mcap"]),
        ("b", ["b.bag"]),
        ("c", ["m/deep/er/c.db3"]),
        ("bag", ["z/bag"]),
    ]


@pytest.mark.parametrize("folder", ["", "bag_folder_without_metadata"])
def test_splits_are_one_drive_in_the_order_of_their_numbers(tmp_path: Path, folder: str) -> None:
    names = [f"log_{i}.mcap" for i in (10, 2, 0, 1, 11)]
    tree(tmp_path / folder, *names)
    got = find_drives([tmp_path])
    assert [d.name for d in got] == ["log"]
    assert [p.name for p in got[0].paths] == [f"log_{i}.mcap" for i in (0, 1, 2, 10, 11)]


def test_numbers_that_are_no_splits_are_drives_of_their_own(tmp_path: Path) -> None:
    """Recorders count splits from 0 without padding; nuScenes' scene-0061 and -0103 are two drives."""
    tree(tmp_path, "scene_0061.bag", "scene_0103.bag", "run_1.bag", "run_2.bag", "pad_00.bag", "pad_01.bag")
    names = ["pad_00", "pad_01", "run_1", "run_2", "scene_0061", "scene_0103"]
    assert found(tmp_path) == {name: [f"{name}.bag"] for name in names}


def test_split_files_named_one_by_one_are_one_drive_when_told(tmp_path: Path) -> None:
    tree(tmp_path, "log_0.bag", "log_1.bag")
    drives = find_drives([tmp_path / "log_0.bag", tmp_path / "log_1.bag"], one_drive=True)
    assert [d.name for d in drives] == ["log"]


def test_one_numbered_file_keeps_its_name(tmp_path: Path) -> None:
    tree(tmp_path, "log_3.mcap", "other.mcap")
    assert found(tmp_path) == {"log_3": ["log_3.mcap"], "other": ["other.mcap"]}


def test_splits_of_two_kinds_are_two_drives(tmp_path: Path) -> None:
    tree(tmp_path, "a_0.mcap", "a_1.mcap", "b_0.bag", "b_1.bag")
    assert found(tmp_path) == {"a": ["a_0.mcap", "a_1.mcap"], "b": ["b_0.bag", "b_1.bag"]}


def test_names_by_template(tmp_path: Path) -> None:
    tree(tmp_path, "mon/cam.bag", "tue/cam.bag", "wed/cam_0.mcap", "wed/cam_1.mcap")
    with pytest.raises(ConfigError, match=r"two drives are called 'cam'.*--drive-name"):
        find_drives([tmp_path])
    assert list(found(tmp_path, template="{parent}_{stem}")) == ["mon_cam", "tue_cam", "wed_cam"]


@pytest.mark.parametrize(
    "template",
    ["{date}", "{}", "{0}", "{stem", "{stem!q}", "{stem:d}", "{stem.nothing}", "{stem[a]}", "{stem.x.y}"],
)
def test_a_wrong_template_says_what_is_known(tmp_path: Path, template: str) -> None:
    with pytest.raises(ConfigError, match=r"only \{stem\} and \{parent\} are known"):
        find_drives([tree(tmp_path, "a.bag")], template=template)


@pytest.mark.parametrize("template", ["", "..", "...", "{stem:.0}"])
def test_a_template_that_leaves_no_name(tmp_path: Path, template: str) -> None:
    with pytest.raises(ConfigError, match="no usable name"):
        find_drives([tree(tmp_path, "a.bag")], template=template)


@pytest.mark.parametrize(
    ("file", "template", "name"),
    [
        ("a b.bag", "{stem}", "a_b"),
        ("größe.bag", "{stem}", "größe"),
        ("x\x1b[2Jy.bag", "{stem}", "x__2Jy"),
        ("a.bag", "../../{stem}", "_.._a"),
        ("a.bag", "/etc/{stem}", "_etc_a"),
        (".hidden.bag", "{stem}", "hidden"),
    ],
)
def test_a_name_is_one_safe_folder(tmp_path: Path, file: str, template: str, name: str) -> None:
    (drive,) = find_drives([tree(tmp_path, file) / file], template=template)
    assert drive.name == name
    assert (tmp_path / drive.name).parent == tmp_path


def test_collisions_are_named(tmp_path: Path) -> None:
    tree(tmp_path, "a b.bag", "a_b.bag", "x.bag")
    with pytest.raises(ConfigError, match=r"a b\.bag and .*a_b\.bag"):
        find_drives([tmp_path])
    with pytest.raises(ConfigError, match="two drives are called 'x'"):
        find_drives([tmp_path / "x.bag", tmp_path / "x.bag"])


def test_one_drive_of_several_paths(tmp_path: Path) -> None:
    tree(tmp_path, "front.bag", "back.bag", "more/c.mcap")
    paths = [tmp_path / n for n in ("front.bag", "back.bag", "more")]
    (drive,) = find_drives(paths, one_drive=True)
    assert drive.name == "front"
    assert drive.paths == tuple(paths)


@pytest.mark.parametrize("name", ["", "empty/", "with_notes/readme.txt"])
def test_a_folder_without_a_log(tmp_path: Path, name: str) -> None:
    if name:
        tree(tmp_path, name)
    with pytest.raises(LogError, match=r"holds no log: no \.bag, \.mcap, \.db3"):
        find_drives([tmp_path])


def test_a_missing_path_is_named_before_anything_is_searched(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"gone\.bag: no such file or folder"):
        find_drives([tree(tmp_path, "a.bag"), tmp_path / "gone.bag"])
    with pytest.raises(ConfigError, match="no log given"):
        find_drives([])


def test_links_do_not_lead_in_circles(tmp_path: Path) -> None:
    tree(tmp_path, "day/a.bag", "day/sub/")
    (tmp_path / "day" / "sub" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "day" / "self").symlink_to(tmp_path / "day", target_is_directory=True)
    (tmp_path / "dead.bag").symlink_to(tmp_path / "gone.bag")
    assert found(tmp_path) == {"a": ["day/a.bag"]}


def test_links_to_logs_are_logs(tmp_path: Path) -> None:
    store = tree(tmp_path / "store", "first/metadata.yaml", "second.bag")
    links = tree(tmp_path / "links", "third.bag")
    (links / "one").symlink_to(store / "first", target_is_directory=True)
    (links / "two.bag").symlink_to(store / "second.bag")
    assert [p for d in find_drives([links]) for p in d.paths] == [
        links / "third.bag",
        links / "two.bag",
        links / "one",
    ]
    linked = tmp_path / "here"
    linked.symlink_to(links, target_is_directory=True)
    assert len(find_drives([linked])) == 3


def test_very_deep_folders_are_not_searched(tmp_path: Path) -> None:
    tree(tmp_path, "1/2/3/4/5/6/in.bag", "1/2/3/4/5/6/7/out.bag")
    assert list(found(tmp_path)) == ["in"]


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "trip/metadata.yaml")
    monkeypatch.chdir(tmp_path / "trip")
    assert find_drives([Path()])[0].name == "trip"


def test_a_pattern_is_read_as_a_shell_reads_it(tmp_path: Path) -> None:
    tree(tmp_path, "mon/a.bag", "mon/b.mcap", "tue/c.bag", "tue/d[1].bag", "tue/note.txt")
    assert list(found(tmp_path, tmp_path / "*" / "*.bag")) == ["a", "c", "d_1_"]
    assert list(found(tmp_path, tmp_path / "**" / "[bc].*")) == ["b", "c"]
    assert list(found(tmp_path, tmp_path / "m*")) == ["a", "b"]
    assert list(found(tmp_path, tmp_path / "tue" / "d[1].bag")) == ["d_1_"]  # what is there is no pattern
    (one,) = find_drives([tmp_path / "*" / "*.bag"], one_drive=True)
    assert len(one.paths) == 3
    with pytest.raises(LogError, match="nothing matches"):
        find_drives([tmp_path / "x*"])


def test_long_names_fit_a_file_system_and_stay_two(tmp_path: Path) -> None:
    drives = find_drives([tree(tmp_path, "ä" * 124 + "1.bag", "ä" * 124 + "2.bag")])
    assert len({d.name for d in drives}) == 2
    for drive in drives:
        assert len(drive.name.encode()) <= 200
        (tmp_path / drive.name).mkdir()
