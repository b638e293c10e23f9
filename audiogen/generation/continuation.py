"""A recording goes on: its beat, key and style are heard, and a stream begins from its codes.

The stream's clock starts with the last frames of the recording, as many as the model's window holds. The beat that was
heard runs on; at the first bar line a plan takes over. A MusicGen, which plans nothing, is given codes and text alone.
Several beginnings may be drawn: the first is taken whose join shows no more than most moments of the recording do, and
it is led to the recording's loudness.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiogen.audio.beatgrid import BeatGrid, beat_grid
from audiogen.audio.defects import SILENCE_DB
from audiogen.audio.features import loudness_lufs
from audiogen.audio.io import read
from audiogen.audio.mastering import TARGET_LUFS
from audiogen.audio.measured import tempo_met
from audiogen.audio.seams import AROUND_SECONDS, seam
from audiogen.audio.seams import LEAST_SECONDS as SEAM_SECONDS
from audiogen.audio.sinks import Subtype
from audiogen.files import sha256_file
from audiogen.generation.generator import Generator, Request
from audiogen.generation.render import CHUNK_FRAMES, Progress, Rendered, clip_sink, record, write_beside
from audiogen.generation.session import Session, clip_limiter, limited
from audiogen.interfaces import INSTRUMENTS, Attributes, AudiogenError, Score, Waveform
from audiogen.lm.musicgen import MusicGen
from audiogen.lm.sampling import Sampling
from audiogen.style.habits import Habits
from audiogen.style.parse import Understanding, merge, parse
from audiogen.style.planner import later, plan, resolve_attributes
from audiogen.style.tagger import LIKELY, shipped_tagger

DEFAULT_SECONDS = 60.0
LEAST_SECONDS = 1.0
"""of the recording"""

_HEARD_SECONDS = 60.0  # of the recording's end: in it beat, key and style are heard
_LEVEL_SECONDS = 6.0  # in which its loudness is measured
_FADE_SECONDS = 0.5
_SAME_TEMPO = 1.06  # up to this ratio, the tempo asked for is the one that is heard
_TRIMMED_SECONDS = 0.25  # silence at the end that lasts longer is left out
_WINDOW_SECONDS = 0.05
_BLOCK_SECONDS = 10.0
_BEGINNINGS = 6  # are drawn at most
_APART = 2**40  # their seeds: far from those that people ask for
_HIDDEN = 0.9  # a step is hidden where it is smaller than a tenth of those around it
_MOST_DB = 10.0  # by which what follows is brought to the recording's loudness


@dataclass(frozen=True)
class Continuation:
    """A recording and how it goes on. Its JSON's `plan` counts from `context_samples` before the join."""

    recording: Waveform
    """what is kept of it, at the model's rate and in its channels"""
    request: Request
    context_samples: int
    """the end of the recording that the model was given as codes"""
    gain: float
    """the model's output is multiplied by it, to be as loud as the recording"""
    cut_seconds: float
    """of silence at the end of the file, left out"""
    grid: BeatGrid | None
    """the beat of the recording; its clock is the stream's. None where no steady beat is heard"""
    seed: int
    """that was asked for; the request's is that of the beginning that was taken"""
    beginnings: int = 0
    """that were drawn"""
    change_db: float = 0.0
    """of the gain within the first seconds after the join, so that what follows is as loud as the recording"""

    @property
    def seconds(self) -> float:
        """Length of the recording and of what follows."""
        return self.recording.seconds + self.request.score.seconds - self.context_samples / self.recording.sample_rate

    def play(self, generator: Generator, chunk_frames: int) -> Iterator[Waveform]:
        """The recording and what follows it, in chunks `[C, S]`. Up to the join the recording fades into what the codec
        makes of it, so that its sound does not change all at once."""
        rate, kept = self.recording.sample_rate, self.recording.samples
        for block in kept[:, : kept.shape[1] - self.fade_samples].split(round(_BLOCK_SECONDS * rate), 1):
            yield Waveform(block, rate)
        yield from self.play_join(generator, chunk_frames)

    def play_join(self, generator: Generator, chunk_frames: int) -> Iterator[Waveform]:
        """The same from `fade_samples` before the join on."""
        rate, kept = self.recording.sample_rate, self.recording.samples
        fade = self.fade_samples
        played = self._stream(generator, chunk_frames)
        head = next(played)
        while head.shape[1] < fade:
            head = torch.cat([head, next(played)], 1)
        faded = cross_fade(kept[:, kept.shape[1] - fade :], head[:, :fade])
        yield Waveform(torch.cat([faded, head[:, fade:]], 1), rate)
        for part in played:
            yield Waveform(part, rate)

    def _stream(self, generator: Generator, chunk_frames: int) -> Iterator[Tensor]:
        """What the model plays from there on, `[C, s]`, as loud as it will be heard."""
        fade = self.fade_samples
        at, ramp = -fade, _LEVEL_SECONDS * self.recording.sample_rate
        limiter = clip_limiter(generator.channels, self.recording.sample_rate)
        for part in _from(generator.session(self.request), chunk_frames, self.context_samples - fade):
            done = ((at + torch.arange(part.shape[1])) / ramp).clamp(0, 1)
            yield limited(limiter, self.gain * 10 ** (self.change_db * done / 20) * part, False)
            at += part.shape[1]
        yield limited(limiter, part[:, :0], True)

    @property
    def fade_samples(self) -> int:
        """Length of the fade before the join."""
        return min(round(_FADE_SECONDS * self.recording.sample_rate), self.context_samples)

    def told(self, path: Path) -> dict[str, Any]:
        """What the JSON beside the clip says of the recording at `path`."""
        heard = self.grid
        return {
            "file": path.name,
            "sha256": sha256_file(path),
            "join_seconds": round(self.recording.seconds, 6),
            "cut_seconds": round(self.cut_seconds, 3),
            "context_seconds": self.context_samples / self.recording.sample_rate,
            "context_frames": 0 if self.request.begun is None else self.request.begun.shape[1],
            "gain_db": round(20 * math.log10(self.gain), 3),
            "gain_change_db": round(self.change_db, 3),
            "beginnings_drawn": self.beginnings,
            "heard_tempo_bpm": None if heard is None else round(heard.tempo_bpm, 3),
            "heard_beats_per_bar": None if heard is None else heard.beats_per_bar,
        }


def continue_recording(
    generator: Generator,
    path: str | Path,
    prompt: str | None = None,
    seconds: float | None = None,
    seed: int | None = None,
    *,
    bpm: float | None = None,
    key_name: str | None = None,
    sampling: Sampling | None = None,
) -> Continuation:
    """Listen to the recording at `path` and settle how it goes on for `seconds` (else the prompt's, else 60).

    What the prompt leaves open, tempo, metre, key and style, is taken from the recording; a MusicGen follows its codes
    and the prompt. Raises AudiogenError for bad input, and a recording that is silent or shorter than a second.
    """
    model = generator.model
    if prompt is None and model.habits is None:
        raise AudiogenError(f"{model.name} follows its text: say what comes, such as 'calmer, with strings'")
    generator.check_request(bpm is not None or key_name is not None)
    understood = Understanding("") if prompt is None else parse(prompt)
    understood = merge(understood, bpm=bpm, key=key_name, seconds=seconds)
    length = understood.attributes.seconds or DEFAULT_SECONDS
    seed = secrets.randbelow(2**31) if seed is None else seed
    whole = read(path, generator.sample_rate, generator.channels)
    recording = _trimmed(whole, path)
    codes, gain = _codes(generator, recording, path)
    context = codes.shape[1] * model.codec.hop_length
    join, grid = context / recording.sample_rate, None
    if model.habits is None:
        request = generator.request(understood, join + length, seed, bpm=bpm, key=key_name, sampling=sampling)
    else:
        end = _last(recording, _HEARD_SECONDS)
        filled, grid, players = _heard(end, understood)
        if grid is not None:
            grid = replace(grid, downbeat_seconds=grid.downbeat_seconds + join - end.seconds)
        attributes = replace(
            resolve_attributes(filled, model.habits, seed), instruments=understood.attributes.instruments
        )  # those of the recording are in its codes
        score = _score(replace(filled, attributes=attributes), grid, join, length, model.habits, seed)
        score = replace(score, parts=((0.0, players),) if players else ())
        request = generator.request(understood, None, seed, sampling=sampling, score=(score, attributes))
    cut = whole.seconds - recording.seconds
    made = Continuation(recording, replace(request, begun=codes), context, gain, cut, grid, seed)
    return _well_begun(generator, made)


def render_continuation(
    generator: Generator, made: Continuation, source: Path, path: Path, subtype: Subtype, plot: bool, progress: Progress
) -> Rendered:
    """Write `path`, the recording and what follows, the JSON beside it and, if asked, the picture; whole or not at
    all."""
    told = record(generator, replace(made.request, seed=made.seed)) | {"continues": made.told(source)}
    began, done = time.monotonic(), 0.0
    with clip_sink(generator, told, path, subtype) as sink:
        for chunk in made.play(generator, CHUNK_FRAMES):
            sink.write(chunk)
            done += chunk.seconds
            progress(done, made.seconds)
    write_beside(path, told, plot)
    return Rendered(done, time.monotonic() - began, sink.clipped_samples)


def cross_fade(out: Tensor, into: Tensor) -> Tensor:
    """From `out` to `into`, both `[C, S]`, at equal power however alike they are.

    The gains of a linear fade, divided by what they would make of the power of two signals of that correlation: Fink,
    Holters and Zölzer 2016, "Signal-matched power-complementary cross-fading and dry-wet mixing", eq. 7.
    """
    power = math.sqrt(float(out.square().sum() * into.square().sum()))
    alike = min(max(float((out * into).sum()) / power, 0.0), 1.0) if power else 0.0
    place = torch.linspace(0, 1, out.shape[1])
    rise = place.square() * (3 - 2 * place)
    norm = ((1 - rise).square() + rise.square() + 2 * alike * rise * (1 - rise)).sqrt()
    return (out * (1 - rise) + into * rise) / norm


def _well_begun(generator: Generator, made: Continuation) -> Continuation:
    """`made` with the first beginning whose join is hidden, or of a few the one whose join shows least; and with the
    change of gain that brings what follows to the loudness of the recording."""
    found: list[tuple[float, Continuation]] = []
    while len(found) < _BEGINNINGS and (not found or found[-1][0] > _HIDDEN):
        seed = (made.seed + len(found) * _APART) % 2**63
        tried = replace(made, request=replace(made.request, seed=seed))
        found.append((_shown(*_around_join(generator, tried, SEAM_SECONDS)), tried))
    best = min(found, key=lambda each: each[0])[1]
    before, after = _around_join(generator, best, _LEVEL_SECONDS)
    louder = loudness_lufs(after) - loudness_lufs(before)
    change = min(max(-louder, -_MOST_DB), _MOST_DB) if math.isfinite(louder) else 0.0
    return replace(best, beginnings=len(found), change_db=change)


def _around_join(generator: Generator, made: Continuation, seconds: float) -> tuple[Waveform, Waveform]:
    """The end of the recording and up to `seconds` of what follows."""
    rate, kept = made.recording.sample_rate, made.recording.samples
    untouched = kept[:, : kept.shape[1] - made.fade_samples]
    parts = [_last(Waveform(untouched, rate), AROUND_SECONDS).samples]
    join = parts[0].shape[1] + made.fade_samples
    end = join + round(seconds * rate)
    for part in made.play_join(generator, CHUNK_FRAMES):
        parts.append(part.samples)
        if sum(each.shape[1] for each in parts) >= end:
            break
    clip = torch.cat(parts, 1)[:, :end]
    return Waveform(clip[:, :join], rate), Waveform(clip[:, join:], rate)


def _shown(before: Waveform, after: Waveform) -> float:
    """The larger rank of a join's two steps; 0 where there is too little music to tell."""
    if min(before.seconds, after.seconds) < SEAM_SECONDS:
        return 0.0
    clip = Waveform(torch.cat([before.samples, after.samples], 1), before.sample_rate)
    steps = seam(clip, before.seconds)
    return max(steps.level_rank, steps.spectrum_rank)


def _from(session: Session, chunk_frames: int, skip: int) -> Iterator[Tensor]:
    """Samples `[C, s]` of the stream, the frames it began with included, but for the first `skip`."""
    assert session.lead is not None
    part = session.lead.samples
    while True:
        if part.shape[1] > skip:
            yield part[:, skip:]
        skip = max(0, skip - part.shape[1])
        if session.finished:
            return
        part = session.advance(chunk_frames).samples


def _trimmed(whole: Waveform, path: str | Path) -> Waveform:
    """Without the silence at its end. Raises AudiogenError when little or nothing is left."""
    width = round(_WINDOW_SECONDS * whole.sample_rate)
    windows = -(-whole.samples.shape[1] // width)
    padded = torch.nn.functional.pad(whole.samples, (0, windows * width - whole.samples.shape[1]))
    levels = 10 * torch.log10(padded.reshape(whole.channels, windows, width).square().mean((0, 2)) + 1e-12)
    heard = torch.nonzero(levels > SILENCE_DB)
    if not len(heard):
        raise AudiogenError(f"{path}: is silent, there is nothing to continue; `audiogen generate` begins from nothing")
    stop = (int(heard[-1]) + 1) * width
    kept = whole if whole.samples.shape[1] - stop < _TRIMMED_SECONDS * whole.sample_rate else _cut(whole, stop)
    if kept.seconds < LEAST_SECONDS:
        raise AudiogenError(
            f"{path}: {kept.seconds:.3f} s of sound; a continuation needs {LEAST_SECONDS:g} s to go on from"
        )
    return kept


def _cut(waveform: Waveform, stop: int) -> Waveform:
    return Waveform(waveform.samples[:, :stop], waveform.sample_rate)


def _last(waveform: Waveform, seconds: float) -> Waveform:
    count = min(round(seconds * waveform.sample_rate), waveform.samples.shape[1])
    return Waveform(waveform.samples[:, waveform.samples.shape[1] - count :], waveform.sample_rate)


def _codes(generator: Generator, recording: Waveform, path: str | Path) -> tuple[Tensor, float]:
    """Codes `[K, n]` of the last n whole frames of the recording, and the gain that makes the codec as loud as it.

    The codec hears it at the loudness of the music that the model was trained on, where that was brought to one; a
    MusicGen's keeps room to go on, as between its windows.
    """
    codec, lm = generator.model.codec, generator.model.lm
    if isinstance(lm, MusicGen):
        seen = lm.config.window_frames - lm.config.stride_frames
    else:
        least = round(LEAST_SECONDS * recording.sample_rate / codec.hop_length)
        seen = max(lm.config.transformer.window_frames, least)
    frames = min(recording.samples.shape[1] // codec.hop_length, seen)
    samples = recording.samples[:, recording.samples.shape[1] - frames * codec.hop_length :]
    context = Waveform(samples, recording.sample_rate)
    loudness = loudness_lufs(context)
    if loudness == -math.inf:
        raise AudiogenError(f"{path}: its last {context.seconds:.1f} s are too quiet to continue; make them louder")
    raised_db = 0.0 if isinstance(lm, MusicGen) else TARGET_LUFS - loudness
    raised = samples * 10 ** (raised_db / 20)
    codes = codec.encode(raised[None].to(generator.model.device))[0, : lm.config.num_codebooks]
    played = Waveform(codec.decode(codes[None])[0].cpu(), recording.sample_rate)
    ends = [loudness_lufs(_last(one, _LEVEL_SECONDS)) for one in (context, played)]
    louder = ends[0] - ends[1] if math.isfinite(ends[0] - ends[1]) else -raised_db
    return codes.cpu(), 10 ** (louder / 20)


def _heard(end: Waveform, asked: Understanding) -> tuple[Understanding, BeatGrid | None, tuple[str, ...]]:
    """What was asked, filled with what is heard in the end of the recording; its beat; and who plays: the instruments
    that are heard and those that were asked for, less those that were left out."""
    said, tags = asked.attributes, shipped_tagger().excerpt(end)
    grid = _beat(end, said.tempo_bpm or tags.tempo_bpm, said.beats_per_bar)
    tempo, metre = said.tempo_bpm, said.beats_per_bar
    if grid is not None:
        metre = metre or grid.beats_per_bar
        if tempo is None or max(tempo / grid.tempo_bpm, grid.tempo_bpm / tempo) < _SAME_TEMPO:
            tempo = grid.tempo_bpm
    style, key = said.style or tags.style_name, said.key or tags.key_name
    filled = Attributes(style, said.moods, said.instruments, tempo, key, metre, said.seconds, said.energy)
    heard = {name for name, chance in zip(INSTRUMENTS, tags.instruments, strict=True) if chance >= LIKELY}
    players = tuple(sorted((heard | set(said.instruments)) - set(asked.excluded)))
    return replace(asked, attributes=filled), grid, players


def _beat(end: Waveform, near_bpm: float, beats_per_bar: int | None) -> BeatGrid | None:
    """The beat, in the octave of a tempo that was asked for or that the tagger hears."""
    found = beat_grid(end, None, beats_per_bar)
    if found is None or not tempo_met(near_bpm, found.tempo_bpm, "octave and 3:2"):
        return found
    return beat_grid(end, (near_bpm / _SAME_TEMPO, near_bpm * _SAME_TEMPO), beats_per_bar) or found


def _score(
    prompt: Understanding, grid: BeatGrid | None, join: float, seconds: float, habits: Habits, seed: int
) -> Score:
    """The beat that was heard up to the first bar line after the join, then a plan to the end."""
    total = join + seconds
    if grid is None:
        return replace(later(plan(prompt, seconds, habits, seed, begun=True), join), seconds=total)
    bars = grid.downbeats_seconds(join, total + 60)
    begin = float(bars[0]) if len(bars) else total
    if begin >= total - 60.0 / grid.tempo_bpm:
        return Score(total, grid.beats_seconds(0, total), grid.downbeats_seconds(0, total))
    planned = later(plan(prompt, total - begin, habits, seed, begun=True), begin)
    return replace(
        planned,
        seconds=total,
        beats_seconds=np.concatenate([grid.beats_seconds(0, begin - 1e-6), planned.beats_seconds]),
        downbeats_seconds=np.concatenate([grid.downbeats_seconds(0, begin - 1e-6), planned.downbeats_seconds]),
    )
