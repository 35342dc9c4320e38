"""What there is to say of a run in one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from perception_batch.report.manifest_facts import ManifestFacts
from perception_batch.report.number_text import duration, percent, plural, whole

GOOD, LOOK, BAD = "good", "look", "bad"
WORDS = {GOOD: "Fine", LOOK: "Worth a look", BAD: "Not usable as it is"}
_INCOMPLETE = 0.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """One run's."""

    level: str
    """``good``, ``look`` or ``bad``."""
    sentence: str
    """For people."""

    @property
    def word(self) -> str:
        """The level, for people."""
        return WORDS[self.level]


def lost_frames(manifest: ManifestFacts) -> int:
    """Frames that the log lacks or that are broken, as far as counts are known."""
    total = 0
    for entry in manifest.losses():
        count = entry.get("count")
        total += count if type(count) is int and 0 < count < 1 << 53 else 0
    return max(total, manifest.count("frames_undecodable"))


def drive_seconds(manifest: ManifestFacts) -> float:
    """Length of what was used of the log, s."""
    return max(0, manifest.stamp("stop_ns") - manifest.stamp("start_ns")) / 1e9


def verdict_of(manifest: ManifestFacts) -> Verdict:
    """From ``run.json`` alone, so that an index of many runs can say it too."""
    status = manifest.status
    if status == "damaged":
        return Verdict(BAD, f"What the run says of itself is damaged ({manifest.problem}); run it again.")
    if status == "failed":
        return Verdict(BAD, "The run failed before it was done; the same command starts it again.")
    if status == "unfinished":
        return Verdict(
            BAD, "The run is not finished: it is still at work, or was stopped; the same command goes on."
        )
    timesteps, incomplete = manifest.count("timesteps"), manifest.count("timesteps_incomplete")
    frames, lost = manifest.count("frames_in_log"), lost_frames(manifest)
    unknown = any(entry.get("count") == 0 for entry in manifest.losses())
    cameras = len(manifest.section("sync", "cameras"))
    if not timesteps:
        return Verdict(
            BAD, f"No timestep came out of {plural(frames, 'frame')}: there is nothing to work with."
        )
    objects, tracks = manifest.count("objects"), manifest.count("tracks")
    drive = drive_seconds(manifest)
    found = (
        f"{whole(objects)} objects in {plural(tracks, 'track')}"
        if tracks
        else plural(objects, "object")
        if objects
        else "nothing found"
    )
    told = f"{duration(drive)} of drive with {plural(cameras, 'camera')} gave {plural(timesteps, 'timestep')} and {found}"
    amiss = []
    if lost:
        amiss.append(
            f"{plural(lost, 'frame')} {'was' if lost == 1 else 'were'} lost ({percent(lost, frames + lost)})"
        )
    elif unknown:
        amiss.append("the log has gaps of unknown size")
    if incomplete:
        amiss.append(f"{percent(incomplete, timesteps)} of the timesteps lack a camera")
    if status == "partial":
        amiss.append("a camera lost more than the run's limit")
    if not amiss:
        return Verdict(
            GOOD if objects else LOOK, f"{told}; no frame was lost and every timestep is complete."
        )
    serious = (
        bool(lost) or unknown or status == "partial" or incomplete > _INCOMPLETE * timesteps or not objects
    )
    return Verdict(LOOK if serious else GOOD, f"{told}; {_listed(amiss)}.")


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
