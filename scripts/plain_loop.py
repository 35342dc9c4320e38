#!/usr/bin/env python3
"""The loops that one would write without this package: `perception_batch.plain_loop` as a script.

python scripts/plain_loop.py LOG --model yolo11n.pt --out OUT [--no-video]
python scripts/plain_loop.py --export yolo11n.pt FOLDER
python scripts/plain_loop.py LOG --model FOLDER/yolo11n_openvino_model --out OUT [--no-video] [--fp32]
"""

from perception_batch.plain_loop import main

if __name__ == "__main__":
    raise SystemExit(main())
