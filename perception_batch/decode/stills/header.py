"""What a still image's header says."""

from __future__ import annotations

from typing import NamedTuple


class StillHeader(NamedTuple):
    """Size and depth of an image file."""

    width_px: int
    """As the pixels lie in the file; EXIF rotation is not applied."""
    height_px: int
    """Likewise."""
    is_deep: bool = False
    """True where samples have 16 bits, of which the camera may use fewer."""
