"""Label Studio: one task an image with its boxes as a prediction, and the labelling configuration that fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from perception_batch.labels.formats import clipped
from perception_batch.labels.label_types import LabelBox, LabelImage

_LOCAL_FILES = "/data/local-files/?d="


def labelling_config(classes: Sequence[str]) -> str:
    """The XML for the project's labelling interface: boxes of `classes`, with the reasons above the image."""
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in classes)
    return (
        "<View>\n"
        '  <Header value="$reasons"/>\n'
        '  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <RectangleLabels name="label" toName="image">\n{labels}\n  </RectangleLabels>\n'
        "</View>\n"
    )


def task(image: LabelImage, image_place: str) -> dict[str, Any]:
    """One task.

    Args:
        image: with its boxes, both bands.
        image_place: a URL, which stays as it is, or the image's path below the folder that Label Studio
            serves (``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT``).

    Returns:
        A task whose prediction has ``score`` 1 - doubt: ordering by prediction score, lowest first, gives the most
        doubtful images first.
    """
    served = "://" in image_place or image_place.startswith("/data/")
    return {
        "data": {
            "image": image_place if served else _LOCAL_FILES + quote(image_place),
            "reasons": "; ".join(image.review_reasons),
            "name": image.name,
            "drive": image.drive,
            "camera": image.camera,
            # As text: a browser's numbers lose the last digits of nanoseconds.
            "frame_stamp_ns": str(image.frame_stamp_ns),
            "timestep": image.timestep,
        },
        "predictions": [
            {
                "model_version": "perception_batch",
                "score": round(1.0 - float(image.doubt), 4),
                "result": [_region(number, box, image) for number, box in enumerate(image.boxes)],
            }
        ],
    }


def _region(number: int, box: LabelBox, image: LabelImage) -> dict[str, Any]:
    x1, y1, x2, y2 = clipped(box.box_px, image)
    percent_x, percent_y = 100.0 / image.width_px, 100.0 / image.height_px
    score = {} if box.score is None else {"score": round(float(box.score), 4)}
    shown = "recovered" if box.score is None else f"score {box.score:.2f}"
    return {
        "id": f"box{number}",
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": int(image.width_px),
        "original_height": int(image.height_px),
        "image_rotation": 0,
        "value": {
            "x": round(x1 * percent_x, 6),
            "y": round(y1 * percent_y, 6),
            "width": round((x2 - x1) * percent_x, 6),
            "height": round((y2 - y1) * percent_y, 6),
            "rotation": 0,
            "rectanglelabels": [box.label],
        },
        **score,
        "meta": {"text": [f"{shown}, quality {box.quality:.2f}, {box.band}"]},
    }
