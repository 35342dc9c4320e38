"""The error tree: exit statuses as the contract says, and names from logs that cannot write on a terminal."""

from __future__ import annotations

import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_batch import errors
from perception_batch.errors import (
    CalibrationError,
    ConfigError,
    DecodeError,
    LogError,
    ModelError,
    PerceptionBatchError,
    SyncError,
    TopicNotFound,
    UnsupportedEncoding,
    WriteError,
    printable,
)


@given(st.text(st.characters()))
def test_printable_text_is_one_line_of_what_a_terminal_shows(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len((shown + "x").splitlines()) == 1
    shown.encode("utf-8")


@given(st.text().filter(str.isprintable))
def test_what_is_printable_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/cam\x1b[2J", "/cam\\x1b[2J"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x00", "\\x00"),
        ("gnp\u202e.bag", "gnp\\u202e.bag"),  # right-to-left override
        ("bad \udcff byte", "bad \\udcff byte"),  # a file name that is no UTF-8
        ("\x9b31m", "\\x9b31m"),  # one-byte CSI
        ("/kamera_größe/前", "/kamera_größe/前"),
        (None, "None"),
        (ValueError("a\nb"), "a\\nb"),
    ],
)
def test_printable_escapes(text: object, shown: str) -> None:
    assert printable(text) == shown


def test_exit_statuses_are_those_of_the_contract() -> None:
    nothing = [LogError("a.bag", "x"), UnsupportedEncoding("a.bag", "x"), DecodeError("", "c", 1, "r", "d")]
    usage = [
        ConfigError("x"),
        TopicNotFound("a.bag", ["c"], []),
        CalibrationError("c", "x"),
        SyncError("x"),
        ModelError("x"),
        WriteError("x"),
    ]
    assert [e.exit_status for e in nothing] == [1] * 3
    assert [e.exit_status for e in usage] == [2] * 6
    assert WriteError("locked", exit_status=errors.EXIT_RETRY).exit_status == 75
    assert WriteError("x").exit_status == 2  # the one before changed nothing for others
    assert (errors.EXIT_OK, errors.EXIT_NOTHING, errors.EXIT_USAGE, errors.EXIT_PARTIAL) == (0, 1, 2, 3)


def test_the_tree_is_the_one_drawn() -> None:
    everything = [e for _, e in inspect.getmembers(errors, inspect.isclass) if issubclass(e, Exception)]
    assert all(issubclass(e, PerceptionBatchError) for e in everything)
    drawn = (errors.__doc__ or "").split("::", 1)[1]
    assert all(e.__name__ in drawn for e in everything)
    assert {e for e in everything if issubclass(e, LogError)} == {
        LogError,
        TopicNotFound,
        UnsupportedEncoding,
        DecodeError,
    }


def test_messages_name_what_is_wrong_and_escape_it() -> None:
    evil = "cam\x1b]0;owned\x07"
    everything: list[PerceptionBatchError] = [
        LogError(f"{evil}.bag", "cut off"),
        TopicNotFound("a.bag", [evil], [evil, "cam_b"]),
        DecodeError("a.bag", evil, 12, "broken_jpeg", "no end"),
        CalibrationError(evil, "K is 0"),
    ]
    for error in everything:
        assert str(error).isprintable()
        assert "cam\\x1b]0;owned\\x07" in str(error)
    assert "it has: none" in str(TopicNotFound("a.bag", ["x"], []))
    assert str(DecodeError("", "cam", 12, "broken_jpeg", "no end")).startswith("camera cam, stamp 12 ns")
    assert everything[0].path.name == f"{evil}.bag"  # type: ignore[attr-defined]


def _every_kind(root: type[PerceptionBatchError] = PerceptionBatchError) -> list[type[PerceptionBatchError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _every_kind(child))]


@pytest.mark.parametrize("kind", _every_kind())
def test_every_error_goes_to_another_process_and_back(kind: type[PerceptionBatchError]) -> None:
    sample = {
        "path": "a.bag", "message": "m", "wanted": ("x",), "available": ("y", "z"), "camera": "c", "stamp_ns": 5,
        "reason": "r", "detail": "d", "exit_status": 75,
    }  # fmt: skip
    own = kind.__init__ is not Exception.__init__
    wanted = list(inspect.signature(kind).parameters.values()) if own else []
    words = [sample[p.name] for p in wanted if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    named = {p.name: sample[p.name] for p in wanted if p.kind is inspect.Parameter.KEYWORD_ONLY}
    error = kind(*words, **named) if own else kind("m")
    error.note = "kept"  # type: ignore[attr-defined]
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is kind
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    assert again.exit_status == error.exit_status
