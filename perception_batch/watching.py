"""``run --watch``: looks again and again, and works off each drive once it has stopped growing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from perception_batch.collection_work import CollectionWork, Fate, complain
from perception_batch.errors import LogError
from perception_batch.runs import Drive, GrowthWatcher, Look, look_at

_LEAST_WAIT_S, _MOST_WAIT_S = 0.2, 30.0


def watch(
    work: CollectionWork,
    find: Callable[[], list[Drive]],
    work_off: Callable[[list[Drive]], Mapping[str, Fate]] | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    rounds: int | None = None,
) -> int:
    """Work off drives as they become ready, until a signal.

    A drive is taken once for each state of its files; one on which another process works is looked at again.

    Args:
        work: where drives are worked off.
        find: the drives that are there now.
        work_off: works off the drives that are ready at one look; None: one after another.
        clock: monotonic, seconds.
        sleep: waits, seconds.
        rounds: how many looks; None: for ever.

    Returns:
        The exit status of all that was done.

    Raises:
        ConfigError: two drives would have one name.
    """
    runs = work.request.config.runs
    watcher = GrowthWatcher(runs.quiet_s, runs.unclosed_s)
    done: dict[str, Look] = {}
    wait_s = min(max(runs.quiet_s / 4, _LEAST_WAIT_S), _MOST_WAIT_S)
    looks = 0
    while rounds is None or looks < rounds:
        if looks:
            sleep(wait_s)
        looks += 1
        try:
            drives = find()
        except LogError:  # nothing there yet, or not any more
            drives = []
        work.note_wanted(drives)
        ready: list[Drive] = []
        looked: dict[str, Look] = {}
        for drive in drives:
            try:
                look = look_at(drive.paths)
            except OSError as error:
                complain(f"{drive.name}: {error.strerror or error}")
                continue
            if done.get(drive.name) == look or watcher.observe(drive.name, look, clock()) != "ready":
                continue
            looked[drive.name] = look
            if work_off is not None:
                ready.append(drive)
            elif work.work(drive, alone=False) != "waiting":
                done[drive.name] = look
        fates = work_off(ready) if work_off is not None and ready else {}
        done.update((name, looked[name]) for name, fate in fates.items() if fate != "waiting")
        names = {drive.name for drive in drives}
        watcher.forget(names)
        done = {name: look for name, look in done.items() if name in names}
        if looked:
            work.write_gauges(work.tally.exit_status())
    return work.tally.exit_status()
