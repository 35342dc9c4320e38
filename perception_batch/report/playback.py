"""The parts of a run's page that play and show: the video, the bird's-eye view, the moments worth a look."""

from __future__ import annotations

import numpy as np

from perception_batch.report.markup import Html, tag
from perception_batch.report.moments import Moment
from perception_batch.report.number_text import clock
from perception_batch.report.run_files import RunFiles
from perception_batch.report.sections import section
from perception_batch.report.video_pictures import FILE_NAME as VIDEO
from perception_batch.report.video_pictures import VideoPictures


def player(run: RunFiles, video: VideoPictures | None, *, embedded: bool) -> Html:
    film: Html = tag("div", "No video. The clock below runs all the same.", class_="no-film")
    if video is not None:
        width, height = video.size_wh
        film = tag(
            "video",
            src=None if embedded else VIDEO,
            preload="auto" if not embedded else None,
            muted=True,
            playsinline=True,
            width=width,
            height=height,
            aria_label="Annotated video: all cameras with the boxes found",
            id="film",
        )
    has_positions = bool(np.isfinite(run.objects["x_m"]).any())
    bird = (
        tag(
            "figure",
            tag(
                "canvas",
                "The objects around the vehicle, as in the table below.",
                id="bird",
                role="img",
                aria_label="Bird's-eye view: the vehicle in the middle, forward is up; the table below tells the same",
            ),
            tag(
                "figcaption",
                tag("span", "Bird's-eye view", class_="name"),
                tag("button", "−", type="button", id="farther", aria_label="Show more ground"),
                tag("button", "+", type="button", id="nearer", aria_label="Show less ground"),
            ),
            class_="bird",
        )
        if has_positions
        else ""
    )
    controls = tag(
        "div",
        tag("button", "Play", type="button", id="play", class_="main", aria_keyshortcuts="Space"),
        tag(
            "button",
            "◀",
            type="button",
            id="back",
            aria_label="One timestep back",
            aria_keyshortcuts="ArrowLeft",
        ),
        tag(
            "button",
            "▶",
            type="button",
            id="forth",
            aria_label="One timestep forward",
            aria_keyshortcuts="ArrowRight",
        ),
        tag(
            "label",
            "Speed ",
            tag(
                "select",
                *(
                    tag("option", f"{s:g}×", value=f"{s:g}", selected=s == 1)
                    for s in (0.1, 0.25, 0.5, 1, 2, 4)
                ),
                id="rate",
            ),
        ),
        tag("output", clock(0), id="now"),
        tag("span", "Space plays, ← → one timestep, Shift ten, Home and End", class_="keys"),
        class_="controls",
    )
    objects = tag(
        "div",
        tag(
            "table",
            tag("caption", "Nearest objects now"),
            tag(
                "thead",
                tag(
                    "tr",
                    *(
                        tag("th", h, scope="col", class_=None if i == 0 else "n")
                        for i, h in enumerate(("object", "metres", "± m", "m/s", "score"))
                    ),
                ),
            ),
            tag("tbody", id="nearest"),
        ),
        class_="nearest",
    )
    side = tag("div", bird, objects, class_="side")
    noscript = tag(
        "noscript",
        tag("p", "Playing and jumping need JavaScript; all figures are there without it.", class_="note"),
    )
    kind = "player" if has_positions else "player flat"
    return tag(
        "section",
        tag("div", film, controls, class_="screen"),
        side,
        noscript,
        class_=kind,
        aria_label="Playback",
    )


def worst(run: RunFiles, moments: list[Moment], video: VideoPictures | None) -> Html:
    if not moments:
        return section(
            "Worst moments",
            tag("p", "No timestep stands out: no lost frame, no large spread, no doubt."),
            id_="moments",
        )
    cards = []
    for moment in moments:
        uri = (
            video.thumbnails.get(moment.step)
            if video is not None and len(video.seconds) == run.steps
            else None
        )
        at = clock(float(run.time_s[moment.step]))
        picture = (
            tag("img", src=uri, alt=f"All cameras at {at}", width=400, decoding="async")
            if uri
            else tag("span", at, class_="blank")
        )
        cards.append(
            tag(
                "li",
                tag(
                    "button",
                    picture,
                    tag("span", tag("b", moment.kind), tag("span", at, class_="at"), class_="what"),
                    tag("span", moment.why, class_="why"),
                    type="button",
                    class_="jump",
                    data_step=moment.step,
                ),
            )
        )
    return section("Worst moments", tag("ul", *cards, class_="moments"), id_="moments")
