"""Results and thumbnails to pictures: pure functions of what they are given."""

from __future__ import annotations

from perception_batch.render.layout import USUAL_ASPECT, Layout, make_layout
from perception_batch.render.mosaic import Mosaic
from perception_batch.render.tile import Tile, view_aspect

__all__ = ["USUAL_ASPECT", "Layout", "Mosaic", "Tile", "make_layout", "view_aspect"]
