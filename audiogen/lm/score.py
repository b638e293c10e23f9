"""The score as numbers: lanes of a frame, cut anywhere, so that an hour's score costs nothing until it is played."""

from __future__ import annotations

import numpy as np

from audiogen.interfaces import INSTRUMENTS, SECTIONS, Score

GROUPS: dict[str, slice] = {
    "beat": slice(0, 3),  # sin, cos of the beat phase, present
    "bar": slice(3, 6),  # sin, cos of the bar phase, present
    "chord": slice(6, 31),  # pitch classes, root, present
    "section": slice(31, 41),  # one-hot, seconds to its end (0…1 for 0…8 s), present
    "energy": slice(41, 43),  # value, present
    "time": slice(43, 48),  # elapsed and remaining: linear to 10 s, logarithmic; present
    "parts": slice(48, 78),  # which instruments play, present
}
NUM_LANES = 78


def lanes(score: Score, start_frame: int, frames: int, frame_rate: float) -> np.ndarray:
    """Score lanes of `frames` frames from `start_frame`, float32 `[frames, NUM_LANES]`.

    Phases are taken at the middle of each frame and run on past the last beat at the last tempo. A lane of which the
    score says nothing is zero, its `present` too.
    """
    out = np.zeros((frames, NUM_LANES), dtype=np.float32)
    seconds = (start_frame + np.arange(frames) + 0.5) / frame_rate
    for name, times in (("beat", score.beats_seconds), ("bar", score.downbeats_seconds)):
        if len(times) >= 2:
            turn = 2 * np.pi * _phase(seconds, np.asarray(times))
            out[:, GROUPS[name]] = np.stack([np.sin(turn), np.cos(turn), np.ones(frames)], 1)
    if score.chords:
        group = out[:, GROUPS["chord"]]
        starts = np.array([chord.start_seconds for chord in score.chords])
        held = np.searchsorted(starts, seconds, side="right") - 1
        here, rows = np.unique(held, return_inverse=True)
        table = np.zeros((len(here), 25), dtype=np.float32)
        for row, index in zip(table, here, strict=True):
            if index >= 0:  # a chord has begun
                chord = score.chords[index]
                row[24] = 1
                if chord.root is not None:
                    row[[*chord.pitch_classes, 12 + chord.root]] = 1
        group[:] = table[rows]
    if score.sections:
        group = out[:, GROUPS["section"]]
        starts = np.array([start for start, _ in score.sections])
        held = np.clip(np.searchsorted(starts, seconds, side="right") - 1, 0, None)
        labels = np.array([SECTIONS.index(label) for _, label in score.sections])
        group[np.arange(frames), labels[held]] = 1
        ends = np.append(starts[1:], score.seconds)
        group[:, 8] = np.clip((ends[held] - seconds) / 8, 0, 1)
        group[:, 9] = 1
    if score.energy:
        points, values = zip(*score.energy, strict=True)
        out[:, GROUPS["energy"]] = np.stack([np.interp(seconds, points, values), np.ones(frames)], 1)
    if score.parts:
        group = out[:, GROUPS["parts"]]
        starts = np.array([start for start, _ in score.parts])
        held = np.clip(np.searchsorted(starts, seconds, side="right") - 1, 0, None)
        playing = np.array([[name in names for name in INSTRUMENTS] for _, names in score.parts], np.float32)
        group[:, :-1] = playing[held]
        group[:, -1] = 1
    remaining = np.maximum(score.seconds - seconds, 0)
    out[:, GROUPS["time"]] = np.stack(
        [
            np.minimum(seconds, 10) / 10,
            np.log1p(seconds) / 6,
            np.minimum(remaining, 10) / 10,
            np.log1p(remaining) / 6,
            np.ones(frames),
        ],
        1,
    )
    return out


def _phase(seconds: np.ndarray, times: np.ndarray) -> np.ndarray:
    """0…1 between successive `times`, extrapolated at both ends at the nearest tempo."""
    index = np.clip(np.searchsorted(times, seconds, side="right") - 1, 0, len(times) - 2)
    return np.mod((seconds - times[index]) / (times[index + 1] - times[index]), 1.0)
