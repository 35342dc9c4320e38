"""What the demo brings along and shows: its detector's weights, and its scoreboard.

`demo_command` composes the demo from the simulator, the chain and the evaluation; nothing heavy is imported here.
"""

from __future__ import annotations

from perception_batch.demo.model import IMAGE_SIZE_PX, LABELS, MIN_SCORE, packaged_model
from perception_batch.demo.scoreboard import MIN_HEIGHT_PX, MIN_VISIBLE, Scores, Speed, scoreboard

__all__ = [
    "IMAGE_SIZE_PX",
    "LABELS",
    "MIN_HEIGHT_PX",
    "MIN_SCORE",
    "MIN_VISIBLE",
    "Scores",
    "Speed",
    "packaged_model",
    "scoreboard",
]
