"""One table of classes: every name leads to one class, and the numbers are those of road users."""

from __future__ import annotations

import re

import pytest

from perception_batch.ontology import DEFAULT_CLASSES, ROAD_USERS, ObjectClass, Ontology

ONTOLOGY = Ontology()


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("car", "car"),
        ("Car", "car"),
        ("vehicle.car", "car"),
        ("Van", "car"),
        ("TRAFFIC_LIGHT", "traffic light"),
        ("traffic-light", "traffic light"),
        ("  traffic   light ", "traffic light"),
        ("construction_vehicle", "truck"),
        ("Person_sitting", "person"),
        ("Pedestrian", "person"),
        ("Cyclist", "bicycle"),
        ("motorbike", "motorcycle"),
        ("Tram", "train"),
    ],
)
def test_words_of_models_and_data_sets(word: str, name: str) -> None:
    found = ONTOLOGY.find(word)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("word", ["", "toaster", "cars", "carp", "\x1b[31mcar"])
def test_other_words_are_unknown(word: str) -> None:
    assert ONTOLOGY.find(word) is None


def test_no_word_of_the_default_table_means_two_classes() -> None:
    words = [
        (re.sub(r"[\s_-]+", " ", word.casefold()).strip(), name)
        for name, entry in DEFAULT_CLASSES.items()
        for word in (name, *entry["aliases"])
    ]
    meant: dict[str, set[str]] = {}
    for word, name in words:
        meant.setdefault(word, set()).add(name)
    assert {word: names for word, names in meant.items() if len(names) > 1} == {}


def test_a_classs_own_name_wins_over_anothers_alias() -> None:
    classes = {n: ObjectClass(n, **e) for n, e in DEFAULT_CLASSES.items()}
    classes["van"] = ObjectClass("van", (), "vehicle", (5.5, 2.0, 2.4), (0.5, 0.1, 0.3), True, "#123456")
    found = Ontology(classes).find("Van")
    assert found is not None
    assert found.name == "van"


def test_the_default_table_is_sound() -> None:
    assert set(ROAD_USERS) <= set(ONTOLOGY.classes)
    for name, entry in ONTOLOGY.classes.items():
        assert entry.name == name
        assert re.fullmatch(r"#[0-9a-f]{6}", entry.color)
        length, width, height = entry.size_lwh_m
        assert min(length, width, height) > 0
        assert all(0 < sd < size for sd, size in zip(entry.size_sd_m, entry.size_lwh_m, strict=True))
        if entry.group in ("vehicle", "two_wheeler"):
            assert length > width
    assert ONTOLOGY.classes["car"].group == ONTOLOGY.classes["truck"].group
    assert ONTOLOGY.classes["car"].group != ONTOLOGY.classes["person"].group
    off_ground = {name for name, entry in ONTOLOGY.classes.items() if not entry.on_ground}
    assert off_ground == {"traffic light", "stop sign"}
