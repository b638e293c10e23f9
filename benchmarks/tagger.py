"""How often tags are right on held-out renders, beside librosa's tempo and a Krumhansl key of the same audio; speed.

python benchmarks/tagger.py --json runs/tagger.json
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from report import CODEC, STARTER, Report, two_cores
from rich.progress import track as progress

from audiogen.audio.io import read
from audiogen.audio.measured import Measured, key_closeness, key_met, tempo_met
from audiogen.codec.spectral import SpectralCodec
from audiogen.data.manifest import Track, read_manifest, resolve
from audiogen.data.similar import Index
from audiogen.evaluation.tagging import score_tags
from audiogen.interfaces import AudiogenError, Key, Waveform
from audiogen.style.tagger import Tagger, Tags, shipped_tagger

Heard = tuple[Tags, Tags, Measured]
"""tags of an excerpt as recorded and through the codec, and what librosa says of it as recorded"""
CODEBOOKS = 8  # that the language model writes
CATALOGUE = 100_000


def excerpt(track: Track, root: Path, seconds: float) -> Waveform:
    """The middle of a track."""
    start = max(0.0, (track.seconds - seconds) / 2)
    return read(resolve(root, track), 48_000, 2, start, seconds)


def listen(tracks: Sequence[Track], root: Path, seconds: float, tagger: Tagger) -> list[Heard]:
    """The same excerpt of each track to every listener."""
    codec = SpectralCodec.load(CODEC)
    found = []
    for track in progress(tracks, "excerpts"):
        clip = excerpt(track, root, seconds)
        copy = codec.decode(codec.encode(clip.samples[None])[:, :CODEBOOKS])[0]
        coded = tagger.waveform(Waveform(copy, codec.sample_rate), track.path)
        found.append((tagger.waveform(clip, track.path), coded, Measured.of(clip)))
    return found


def peers(report: Report, tracks: Sequence[Track], heard: Sequence[Heard], seconds: float) -> None:
    """Tempo and key beside librosa's, and every figure of the excerpts."""
    keys = [Key.parse(str(track.key)) for track in tracks]
    tempos = [float(track.tempo_bpm or 0) for track in tracks]
    own, coded, librosa = zip(*heard, strict=True)
    scores = score_tags(own, tracks)
    through = score_tags(coded, tracks)
    theirs = {
        "key": np.mean([key_met(key, each.key) for key, each in zip(keys, librosa, strict=True)]),
        "key_closeness": np.mean([key_closeness(key, each.key) for key, each in zip(keys, librosa, strict=True)]),
        "tempo": np.mean([tempo_met(t, each.tempo_bpm, "strict") for t, each in zip(tempos, librosa, strict=True)]),
        "tempo_octave": np.mean([tempo_met(t, each.tempo_bpm) for t, each in zip(tempos, librosa, strict=True)]),
    }
    short = f"{seconds:g} s"
    report.add(f"key, {short}", scores["key"], f"Krumhansl {theirs['key']:.2f}", at_least=float(theirs["key"]) + 1e-6)
    report.add(f"key, closeness, {short}", scores["key_closeness"], f"Krumhansl {theirs['key_closeness']:.2f}")
    report.add(
        f"tempo within 4 %, octaves allowed, {short}", scores["tempo_octave"], f"librosa {theirs['tempo_octave']:.2f}"
    )
    report.add(f"tempo within 4 %, {short}", scores["tempo"], f"librosa {theirs['tempo']:.2f}")
    for name, what in (("style", "style"), ("instruments_map", "instruments, mAP"), ("key", "key"),
                       ("tempo_octave", "tempo, octaves allowed")):  # fmt: skip
        report.add(f"{what}, {short} through the codec", through[name], f"as recorded {scores[name]:.2f}")


def whole(report: Report, tracks: Sequence[Track], root: Path, tagger: Tagger) -> None:
    """Figures of whole tracks against the targets."""
    tags = [tagger.file(resolve(root, track)) for track in progress(tracks, "whole tracks")]
    scores = score_tags(tags, tracks)
    report.add("style", scores["style"], f"sure {scores['style_sure']:.2f}", at_least=0.95)
    report.add("instruments, mAP", scores["instruments_map"], f"F1 {scores['instruments_f1']:.2f}", at_least=0.85)
    report.add("tempo within 4 %, octaves allowed", scores["tempo_octave"], at_least=0.97)
    report.add("tempo within 4 %", scores["tempo"])
    report.add("key", scores["key"], f"sure {scores['key_sure']:.2f}")
    report.add("metre", scores["metre"])
    report.add("moods, mAP", scores["moods_map"])
    report.add("energy, correlation", scores["energy_correlation"])


def speed(report: Report, track: Track, root: Path, tagger: Tagger) -> None:
    """Reading, hearing and the network, warm; then the search in an index of invented tracks."""
    path = resolve(root, track)
    took = timed(lambda: tagger.file(path), 3)
    report.add(
        "speed, × real time",
        track.seconds / took,
        f"{track.seconds:.0f} s in {took:.2f}",
        at_least=100.0,
        form="{:.0f}",
    )
    width = len(tagger.file(path).embedding)
    vectors = np.random.default_rng(0).normal(size=(CATALOGUE, width)).astype(np.float16)
    index = Index("", tuple(f"{row:064x}" for row in range(CATALOGUE)), {"embedding": vectors})
    query = vectors[7].astype(np.float32)
    index.nearest(query, 10)
    milliseconds = 1000 * timed(lambda: index.nearest(query, 10), 20)
    report.add(f"nearest of {CATALOGUE:,}, ms", milliseconds, "exact", at_most=50.0, form="{:.1f}")


def timed(action: Callable[[], object], times: int) -> float:
    """Median seconds."""
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        action()
        took.append(time.perf_counter() - begin)
    return median(took)


def main(
    manifest: Annotated[Path, typer.Option(help="labelled tracks")] = STARTER / "manifest.jsonl",
    split: Annotated[str, typer.Option(help="train, validation, test; or all")] = "test",
    seconds: Annotated[float, typer.Option(min=10, help="of each track, for librosa and the codec")] = 60.0,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the tagger's table."""
    two_cores()
    tracks = [track for track in read_manifest(manifest) if split in ("all", track.split)]
    tracks = [track for track in tracks if track.style and track.key and track.tempo_bpm]
    if not tracks:
        raise AudiogenError(f"{manifest}: no labelled tracks in the split {split!r}")
    tagger, root = shipped_tagger(), manifest.parent
    report = Report(f"The tagger on {len(tracks)} tracks of {manifest}, split {split}")
    whole(report, tracks, root, tagger)
    peers(report, tracks, listen(tracks, root, seconds, tagger), seconds)
    speed(report, max(tracks, key=lambda track: track.seconds), root, tagger)
    report.notes.append(f"tagger {tagger.fingerprint}; one track is {1 / len(tracks):.3f} of an accuracy")
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
