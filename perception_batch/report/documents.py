"""A whole page: its head, the style and scripts of this package put into it, and a policy that forbids the rest."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from perception_batch.report.markup import Html, in_script, join, tag

STYLE = "page.css"


def asset(name: str) -> Html:
    """A file of this package's `assets` folder, with line ends as a browser sees them."""
    return Html(files("perception_batch.report").joinpath("assets", name).read_text(encoding="utf-8"))


def document(title: str, body: Html, scripts: Sequence[str] = (), data: Sequence[Html] = ()) -> Html:
    """The page.

    Args:
        title: for the browser's tab.
        body: what stands in it; it is complete without scripts.
        scripts: files of `assets`, run in this order as one script, after everything else is there.
        data: script elements with data, which the scripts read.
    """
    style = asset(STYLE)
    program = Html("")
    if scripts:
        program = Html('"use strict";\n(() => {\n' + "\n".join(asset(name) for name in scripts) + "\n})();\n")
    allowed = {
        "default-src": "'none'",
        "img-src": "data:",
        "media-src": "'self' file: blob:",
        "style-src": _hash(style),
        "script-src": _hash(program) if program else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    policy = "; ".join(f"{name} {value}" for name, value in allowed.items())
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        Html(f"<style>{style}</style>"),
    )
    end = Html(f"<script>{program}</script>") if program else Html("")
    page = tag("html", head, tag("body", tag("main", body), *data, end), lang="en")
    return join((Html("<!DOCTYPE html>\n"), page, Html("\n")))


def script_data(id_: str, value: Any) -> Html:
    """`value` as JSON that a script finds by its id."""
    return Html(f'<script type="application/json" id="{id_}">{in_script(value)}</script>')


def script_rows(id_: str, letters: str) -> Html:
    """Base64 that a script finds by its id."""
    return Html(f'<script type="text/plain" id="{id_}">{letters}</script>')


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
