#!/usr/bin/env python3
"""How fast a run's page opens and plays in headless Chromium: first content, ready to play, frames a second.

example: scripts/measure_report_page.py out/drive/report.html
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

_MEASURE = """async (seconds) => {
  const ready = performance.now();
  await new Promise((done) => setTimeout(done, 1000));
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  const film = document.getElementById("film"), times = [];
  document.getElementById("play").click();
  await new Promise((done) => {
    const frame = (at) => {
      times.push(at);
      if (at - times[0] < 1000 * seconds) requestAnimationFrame(frame); else done();
    };
    requestAnimationFrame(frame);
  });
  const steps = times.slice(1).map((at, i) => at - times[i]).sort((a, b) => a - b);
  const quality = film ? film.getVideoPlaybackQuality() : null;
  return {
    first_content_ms: Math.round(paint ? paint.startTime : -1), ready_ms: Math.round(ready),
    frames_per_s: +(1000 * steps.length / (times.at(-1) - times[0])).toFixed(1),
    frame_ms_p95: +steps[Math.floor(0.95 * steps.length)].toFixed(1),
    video_pictures: quality && quality.totalVideoFrames, video_dropped: quality && quality.droppedVideoFrames,
  };
}"""


def main() -> None:
    """Print one line of JSON for each time the page is opened."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, help="report.html of a run")
    parser.add_argument("--times", type=int, default=3, help="how often it is opened (3)")
    parser.add_argument("--seconds", type=float, default=8.0, help="played each time (8)")
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("PERCEPTION_BATCH_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(arguments.times):
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.goto(arguments.page.resolve().as_uri(), wait_until="commit")
            page.wait_for_selector("html[data-ready]", state="attached")
            print(json.dumps(page.evaluate(_MEASURE, arguments.seconds)))
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
