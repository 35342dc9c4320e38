"""The ground under the boxes, learnt from the drive: height, slopes ahead and behind, and each camera's pitch.

A box's height says how far it is, whatever the ground does; its low edge at that range says how high the
ground is there. One box says it to a tenth of the camera's height and a fraction of its class's spread. Many
boxes say whether the road climbs, whether the body nods, and whether a camera looks lower than its calibration
believes. Two Bayesian regressions share the work: one over the drive (height, cameras' pitches), one over the
last second or so (height and slopes), to which the first is the prior.

An object that is in view for a second is one witness, not ten: evidence enters as a running mean, so that a
window holds each object about once. What a box itself testified is taken out again before it is asked for the
ground under it; else a car alone on the road would confirm itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.config import FuseConfig
from perception_batch.fusion.columns import Columns
from perception_batch.fusion.ground import Ground

_USUAL_STEP_S = 0.1  # between timesteps, where the caller does not say
_LONGEST_STEP_S = 10.0
_DRIVE_WITNESS_S = 4.0  # an object's evidence on what lasts counts about once in this time
_SLOPE_MEMORY_S = 20.0  # over which the usual size of slopes is learnt
_SMALLEST_SLOPE = 0.003  # roads called flat, rise over run
# What no number of boxes makes better: priors err by a few per cent for a whole country's cars.
_HEIGHT_FLOOR_M = 0.04
_PITCH_FLOOR_RAD = math.radians(0.1)
_AHEAD, _BEHIND, _HEIGHT, _PITCH = range(
    4
)  # the unknowns: two slopes; then what lasts: height, a pitch a camera
_DOUBT_SIGMAS = 2.0  # Cauchy weight: a witness this far off counts half


@dataclass(frozen=True, slots=True)
class GroundUnder(Columns):
    """The ground as N boxes meet it, as seen through their own (maybe nodding) cameras."""

    z_m: FloatArray
    """(N,) height of the ground at the vehicle, base frame; NaN where unknown."""
    slope: FloatArray
    """(N,) rise over run along each box's ray, the camera's pitch included."""
    z_sigma_m: FloatArray
    """(N,) standard deviation of `z_m`."""
    slope_sigma: FloatArray
    """(N,) of `slope`, of what all cameras share."""
    pitch_sigma: FloatArray
    """(N,) of `slope`, of what is the camera's own, rad."""

    @classmethod
    def joined(cls, parts: Sequence[GroundUnder]) -> GroundUnder:
        """One after the other; at least one."""
        if len(parts) == 1:
            return parts[0]
        return cls(*[np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__])


def flat_under(ground: Ground, n: int, settings: FuseConfig) -> GroundUnder:
    """The plane `ground` under N boxes, with the settings' doubts."""
    return GroundUnder(
        np.full(n, ground.z_m),
        np.zeros(n),
        np.full(n, ground.sigma_m),
        np.full(n, settings.slope_sigma),
        np.full(n, math.radians(settings.pitch_sigma_deg)),
    )


class SurfaceEstimator:
    """Height and slopes of the ground and pitches of C cameras; memory does not grow with the drive."""

    def __init__(self, cameras: int, settings: FuseConfig) -> None:
        self._memory_s = settings.ground_memory_s
        self._pitch_var = max(math.radians(settings.pitch_sigma_deg), 1e-4) ** 2
        self._slope_var = self._slope_start = max(settings.slope_sigma, _SMALLEST_SLOPE) ** 2
        n = self._n = _PITCH + cameras
        # Information, and beside it its product with the state: of the last moments, and of the drive on what lasts.
        self._recent, self._drive = np.zeros((n, n + 1)), np.zeros((n - _HEIGHT, n - _HEIGHT + 1))
        self._weight = 0.0
        self._solved = np.zeros((n + 1, n))  # the state, and below it its covariance
        self._slope_solved = 0.0  # information on slopes that it was solved with
        self._known: tuple[Ground, FloatArray, FloatArray] | None = None  # beforehand; and its floor
        self._before: FloatArray | None = None  # what the drive says, until it says more
        self._stamp_ns: int | None = None

    def look(
        self,
        ground: Ground,
        starts: Sequence[int],
        stamps_ns: Sequence[int | None],
        toward: FloatArray,
        origin_m: FloatArray,
        run_m: FloatArray,
        camera: npt.NDArray[np.int64],
        contact_z_m: FloatArray,
        contact_var_m2: FloatArray,
    ) -> GroundUnder:
        """Take in T timesteps' boxes, N in all, and say what the ground under each is.

        How many timesteps there are makes no difference: each has its say before the next is asked.

        Args:
            ground: what is known without the drive; its height must be known.
            starts: T + 1 numbers: the first box of each timestep, and N.
            stamps_ns: times of the timesteps; None: a usual step after the last.
            toward: (2, N) direction of the boxes, base frame; NaN gives the flat ground.
            origin_m: (3, N) their cameras' positions.
            run_m: (N,) horizontal distance from the camera to where each would touch the ground; NaN likewise.
            camera: (N,) number of its camera.
            contact_z_m: (N,) height of the ground that it testifies; NaN: none.
            contact_var_m2: (N,) its variance.
        """
        n = len(run_m)
        x = origin_m[0] + run_m * toward[0]
        usable = np.isfinite(x)
        x, run = np.where(usable, x, 0.0), np.where(usable, run_m, 0.0)
        told = usable & np.isfinite(contact_z_m) & (contact_var_m2 > 0)
        rows = np.zeros((self._n + 1, n))  # an unknown each, and the height that they add up to
        np.maximum(x, 0.0, out=rows[_AHEAD])
        np.minimum(x, 0.0, out=rows[_BEHIND])
        rows[_HEIGHT] = 1.0
        rows.ravel()[(_PITCH + camera) * n + np.arange(n)] = run
        rows[-1] = np.where(told, contact_z_m, 0.0)
        information = np.where(told, 1 / contact_var_m2, 0.0)
        alone_m2 = 1 / np.maximum(information, 1e-9)
        steep2 = x * x
        expected = np.empty((2, n))
        known: list[tuple[float, ...]] = []
        for number, stamp_ns in enumerate(stamps_ns):
            mine = slice(starts[number], starts[number + 1])
            # Products of matrices see the same memory layout, however many timesteps there are.
            own = np.ascontiguousarray(rows[:, mine])
            step_s = self._step_s(stamp_ns)
            self._forget(step_s)
            self._reweigh(ground)
            mean, var = self._expected(own)
            doubt = alone_m2[mine] + var
            weight: FloatArray = information[mine]
            weight /= 1 + (own[-1] - mean) ** 2 / (_DOUBT_SIGMAS**2 * doubt)
            self._take(own, weight, steep2[mine], step_s)
            self._solve(ground)
            self._learn_slopes(step_s)
            expected[:, mine] = self._expected(own)
            state, cov = self._solved[0], self._solved[1:]
            known.append((state[_HEIGHT], cov[_HEIGHT, _HEIGHT], self._slope_var, *cov.diagonal()[_PITCH:]))
        of = np.arange(len(known)).repeat(np.diff(starts))
        facts = np.array(known).T
        pitch_var = facts[3:].ravel().take(camera * len(known) + of)
        z_m, z_var, slope_var = facts[:3].take(of, 1)
        return self._under(
            expected, rows[-1], steep2, run, usable, information, z_m, z_var, slope_var, pitch_var
        )

    def ground(self, ground: Ground) -> Ground:
        """`ground` with what is known of its height and slopes now."""
        state, cov = self._solved[0].tolist(), self._solved[1:].diagonal().tolist()
        return Ground(
            state[_HEIGHT],
            math.sqrt(cov[_HEIGHT]),
            ground.source,
            state[_AHEAD],
            state[_BEHIND],
            math.sqrt(max(cov[_AHEAD], cov[_BEHIND])),
            tuple(state[_PITCH:]),
        )

    def _step_s(self, stamp_ns: int | None) -> float:
        before, self._stamp_ns = self._stamp_ns, stamp_ns
        if stamp_ns is None or before is None:
            return _USUAL_STEP_S
        return min(max((stamp_ns - before) * 1e-9, 0.0), _LONGEST_STEP_S)

    def _forget(self, step_s: float) -> None:
        keep = math.exp(-step_s / self._memory_s)
        self._recent *= keep
        self._weight *= keep

    def _expected(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(N,) height of the ground where the boxes' rows are, and its variance."""
        both = self._solved @ rows[:-1]
        return both[0], np.add.reduce(both[1:] * rows[:-1], 0)

    def _take(self, rows: FloatArray, information: FloatArray, steep2: FloatArray, step_s: float) -> None:
        share = max(1 - math.exp(-step_s / self._memory_s), 1e-3)
        self._recent += (rows[:-1] * (share * information)) @ rows.T
        self._weight += share
        # Over the drive slopes are noise: as large as they usually are here, and the same for a while.
        softened = information / (1 + information * (self._slope_var * steep2))
        softened *= min(1.0, step_s / _DRIVE_WITNESS_S)
        lasting = rows[_HEIGHT:]
        self._before = None
        self._drive += (lasting[:-1] * softened) @ lasting.T

    def _solve(self, ground: Ground) -> None:
        """The state and its covariance, from what is known beforehand, the drive and the last moments."""
        if self._before is None:
            self._before = self._of_drive(ground)
        total = self._recent / self._weight if self._weight > 0 else np.zeros_like(self._recent)
        total[_HEIGHT:, _HEIGHT:] += self._before
        self._slope_solved = 1 / self._slope_var
        total[_AHEAD, _AHEAD] += self._slope_solved
        total[_BEHIND, _BEHIND] += self._slope_solved
        cov = np.linalg.inv(total[:, :-1])
        np.multiply(cov + cov.T, 0.5, out=self._solved[1:])
        np.matmul(self._solved[1:], total[:, -1], out=self._solved[0])

    def _reweigh(self, ground: Ground) -> None:
        """The same after a while in which nothing was told: what is forgotten, evenly, leaves all but the slopes as it was."""
        if self._before is None or self._known is None or self._known[0] is not ground:
            self._before = None
            self._solve(ground)
            return
        more = 1 / self._slope_var - self._slope_solved  # information on both slopes
        self._slope_solved += more
        # Woodbury's identity, for two rows: A⁻¹ less A⁻¹ U (1 / more + Uᵀ A⁻¹ U)⁻¹ Uᵀ A⁻¹.
        solved = self._solved
        (a, b), (_, d) = solved[1 : 1 + _HEIGHT, :_HEIGHT].tolist()
        a, b, d = 1 + more * a, more * b, 1 + more * d
        scale = more / (a * d - b * b)
        inner = np.array([[scale * d, -scale * b], [-scale * b, scale * a]])
        solved -= (solved[:, :_HEIGHT] @ inner) @ solved[1 : 1 + _HEIGHT]

    def _of_drive(self, ground: Ground) -> FloatArray:
        """Information, and beside it its product with the state, on what lasts: known beforehand or told by the whole drive."""
        if self._known is None or self._known[0] is not ground:
            self._known = ground, *self._beforehand(ground)
        _, prior, floor = self._known
        # Information A means the covariance A⁻¹, with the floor A⁻¹ + F, and that is the information (1 + A F)⁻¹ A.
        told = self._drive + prior
        floored = told[:, :-1] * floor
        floored.ravel()[:: len(told) + 1] += 1.0  # its diagonal
        return np.asarray(np.linalg.solve(floored, told), np.float64)

    def _beforehand(self, ground: Ground) -> tuple[FloatArray, FloatArray]:
        """What is known on what lasts before the drive, as of `_drive`; and the variances that no drive makes smaller."""
        count = self._n - _HEIGHT
        prior, floor = np.zeros((count, count + 1)), np.full(count, min(_PITCH_FLOOR_RAD**2, self._pitch_var))
        np.fill_diagonal(prior, 1 / self._pitch_var)
        prior[0, 0] = 1 / max(ground.sigma_m, 1e-3) ** 2
        prior[0, -1] = prior[0, 0] * ground.z_m
        floor[0] = min(_HEIGHT_FLOOR_M, ground.sigma_m) ** 2
        return prior, floor

    def _learn_slopes(self, step_s: float) -> None:
        """How steep roads are here: the mean square of the slopes, by expectation and maximisation."""
        (ahead, behind), cov = self._solved[0, :_HEIGHT].tolist(), self._solved[1:].diagonal().tolist()
        now = 0.5 * (ahead * ahead + cov[_AHEAD] + behind * behind + cov[_BEHIND])
        share = min(1.0, step_s / _SLOPE_MEMORY_S)
        mixed = self._slope_var + share * (now - self._slope_var)
        self._slope_var = min(max(mixed, _SMALLEST_SLOPE**2), 4 * self._slope_start)

    def _under(
        self,
        expected: FloatArray,
        z: FloatArray,
        steep2: FloatArray,
        run: FloatArray,
        usable: npt.NDArray[np.bool_],
        information: FloatArray,
        z_m: FloatArray,
        z_var: FloatArray,
        slope_var: FloatArray,
        pitch_var: FloatArray,
    ) -> GroundUnder:
        """The ground as the N boxes meet it, without what each testified itself."""
        mean, var = expected
        var = np.maximum(var, 1e-8)
        run2 = run**2
        prior_var = z_var + slope_var * steep2 + self._pitch_var * run2
        over_var = 1 / var
        precision = np.maximum(over_var - information, 1 / np.maximum(prior_var, var))
        without = 1 / precision
        # Where its own word is all there is, the rest is what was known before.
        own = np.minimum(information, np.maximum(over_var - precision, 0.0))
        mean = without * (mean * over_var - own * z)
        far = np.maximum(run, 1.0)
        slope = np.where(usable, (mean - z_m) / far, 0.0)
        slope_var = np.maximum(without - z_var, 0.0) / np.maximum(run2, 1.0) + _SMALLEST_SLOPE**2
        pitch_var = np.minimum(pitch_var, slope_var)
        slope_var -= pitch_var
        return GroundUnder(
            z_m,
            slope,
            np.sqrt(z_var),
            np.sqrt(np.where(usable, slope_var, self._slope_start)),
            np.sqrt(np.where(usable, pitch_var, self._pitch_var)),
        )
