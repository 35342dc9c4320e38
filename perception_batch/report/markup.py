"""HTML that is safe by construction: whatever is not already markup is escaped as it is put in."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from perception_batch.errors import printable

_VOID = {"img", "meta", "br", "col", "input"}
_SPACES = re.compile("([\u00a0\u202f])")


class Html(str):
    """Text that is markup already; only `tag`, `join` and the files of this package make it."""

    __slots__ = ()


def text(value: object) -> Html:
    """`value` as text of a page: no markup, no control characters, nothing that turns the direction of writing.

    The two spaces at which lines do not break stay as they are: numbers and their units hold them.
    """
    parts = _SPACES.split(str(value))
    return Html(html.escape("".join(p if _SPACES.fullmatch(p) else printable(p) for p in parts), quote=True))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """One element.

    Args:
        name: of the element.
        children: `Html` as it is, everything else as text.
        attributes: ``class_`` is ``class``, ``data_time`` is ``data-time``; None and False are left out, True has
            no value.
    """
    words = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        words.append(f" {word}" if value is True else f' {word}="{text(value)}"')
    opening = f"<{name}{''.join(words)}>"
    return Html(opening if name in _VOID else f"{opening}{join(children)}</{name}>")


def join(parts: Iterable[object], between: str = "") -> Html:
    """Parts one after another."""
    return Html(text(between).join(part if isinstance(part, Html) else text(part) for part in parts))


def table(
    caption: str,
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    words: int = 1,
    id_: str | None = None,
    sortable: bool = False,
) -> Html:
    """A table that scrolls by itself where the page is narrow.

    Args:
        caption: for those who do not see where it stands.
        head: names of the columns.
        rows: cells; the first of a row names it. A cell may be a pair (shown, what it sorts by).
        words: so many columns at the left hold words; the others hold numbers and stand to the right.
        id_: of the element.
        sortable: whether its heads are buttons that sort.
    """
    heads = [
        tag(
            "th",
            tag("button", name, type="button") if sortable else name,
            scope="col",
            class_=None if place < words else "n",
        )
        for place, name in enumerate(head)
    ]
    body = []
    for row in rows:
        cells = []
        for place, cell in enumerate(row):
            shown, key = cell if isinstance(cell, tuple) else (cell, None)
            kind = None if place < words else "n"
            cells.append(
                tag(
                    "td" if place else "th",
                    shown,
                    class_=kind,
                    data_key=key,
                    **({} if place else {"scope": "row"}),
                )
            )
        body.append(tag("tr", *cells))
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", *heads)),
            tag("tbody", *body),
            id=id_,
            class_="sortable" if sortable else None,
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption,
    )


def in_script(value: Any) -> Html:
    """`value` as JSON that may stand in a script element: nothing in it can end the element."""
    words = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        words = words.replace(sign, f"\\u{ord(sign):04x}")
    return Html(words)
