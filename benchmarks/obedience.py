"""Do clips of the shipped model have the style, the tempo and the key that were asked for?

Beside every figure stands what the same judge says of real held-out renders cut to the same length, as they are and
after the codec, and the floor: the same clips with the prompts exchanged.

python benchmarks/obedience.py --keep runs/obedience --json runs/obedience.json
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from report import ROOT, STARTER, Report
from rich.progress import track as progress

from audiogen import AudiogenError, Generator, Key, Waveform
from audiogen.audio.io import read, write
from audiogen.audio.measured import Measured, key_met, tempo_met
from audiogen.data.manifest import Track, read_manifest, resolve
from audiogen.evaluation.obedience import Asked, floor, obedience
from audiogen.evaluation.style_classifier import fit_style_judge
from audiogen.files import atomic_path
from audiogen.generation.models import LoadedModel
from audiogen.style.listen import timbre

Version = Literal["real", "codec"]
VERSIONS: tuple[Version, ...] = ("real", "codec")
TRAIN_EXCERPTS, HELD_OUT_EXCERPTS = 2, 2


def prompts(tracks: Sequence[Track], count: int, seed: int) -> list[tuple[str, str, Asked]]:
    """(style, text, asked), in turn over all styles; tempo, key, mood and instruments are each some track's own."""
    chance = random.Random(seed)
    by_style: dict[str, list[Track]] = {}
    for track in tracks:
        if track.style and track.tempo_bpm and track.key:
            by_style.setdefault(track.style, []).append(track)
    made = []
    for index in range(count):
        style = sorted(by_style)[index % len(by_style)]
        tempo, key, colour = (chance.choice(by_style[style]) for _ in range(3))
        assert tempo.tempo_bpm and key.key
        bpm = round(tempo.tempo_bpm)
        words = [*colour.moods[:1], style]
        if colour.instruments and index // len(by_style) % 2:  # every second round over the styles names instruments
            words += ["with", " and ".join(chance.sample(colour.instruments, min(2, len(colour.instruments))))]
        made.append((style, f"{' '.join(words)}, {bpm} bpm, {key.key}", Asked(bpm, Key.parse(key.key))))
    return made


class Excerpts:
    """Pieces of real renders, spread evenly over each track, as they are or through the model's codec.

    The codec uses the codebooks that the language model writes.
    """

    def __init__(self, tracks: Iterable[Track], root: Path, seconds: float, count: int, model: LoadedModel) -> None:
        self.places = [
            (track, (track.seconds - seconds) * (index + 0.5) / count)
            for track in tracks
            if track.style and track.tempo_bpm and track.key and track.seconds > seconds
            for index in range(count)
        ]
        self.styles = [str(track.style) for track, _ in self.places]
        self._root, self._seconds = root, seconds
        self._codec, self._codebooks = model.codec, model.lm.config.num_codebooks

    def asked(self) -> list[Asked]:
        return [Asked(float(track.tempo_bpm or 0), Key.parse(str(track.key))) for track, _ in self.places]

    def audio(self, version: Version) -> Iterable[Waveform]:
        for track, start in self.places:
            clip = read(resolve(self._root, track), self._codec.sample_rate, 2, start, self._seconds)
            if version == "codec":
                codes = self._codec.encode(clip.samples[None])[:, : self._codebooks]
                clip = Waveform(self._codec.decode(codes)[0, :, : clip.samples.shape[1]], clip.sample_rate)
            yield clip

    def vectors(self, version: Version) -> np.ndarray:
        """Timbre vectors `[N, F]`, kept under runs/ for the next time."""
        told = [(track.sha256, round(start, 3)) for track, start in self.places]
        coded = (self._codec.fingerprint, self._codebooks) if version == "codec" else None
        key = repr((told, self._seconds, coded))
        path = ROOT / "runs" / "timbre" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
        if path.is_file():
            return np.load(path, allow_pickle=False)
        title = f"timbre of {len(self.places)} excerpts, {version}"
        vectors = np.stack([timbre(clip) for clip in progress(self.audio(version), title, len(self.places))])
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            np.save(temporary, vectors)
        return vectors


def share(values: Iterable[bool]) -> float:
    """Of true values, 0…1."""
    return float(np.mean(list(values)))


def main(
    clips: Annotated[int, typer.Option(min=10)] = 40,
    seconds: Annotated[float, typer.Option(min=5.0)] = 20.0,
    model: Annotated[str, typer.Option()] = "mini",
    manifest: Annotated[Path, typer.Option()] = STARTER / "manifest.jsonl",
    root: Annotated[Path, typer.Option()] = STARTER,
    seed: Annotated[int, typer.Option(min=0, help="another seed draws other prompts")] = 1,
    keep: Annotated[Path | None, typer.Option(help="save the clips in this folder")] = None,
    json: Annotated[Path | None, typer.Option(help="save the tables")] = None,
) -> None:
    """Print the tables of obedience."""
    try:
        generator = Generator.from_pretrained(model)
        tracks = read_manifest(manifest)
    except AudiogenError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    train = Excerpts((t for t in tracks if t.split == "train"), root, seconds, TRAIN_EXCERPTS, generator.model)
    held_out = Excerpts((t for t in tracks if t.split != "train"), root, seconds, HELD_OUT_EXCERPTS, generator.model)
    is_test = np.array([track.split == "test" for track, _ in held_out.places])
    judge = fit_style_judge(np.concatenate([train.vectors(v) for v in VERSIONS]), train.styles * len(VERSIONS))
    heard = {version: np.array(judge.predict(held_out.vectors(version))) for version in VERSIONS}
    right = {version: heard[version] == np.array(held_out.styles) for version in VERSIONS}
    real = {
        version: obedience(
            held_out.asked(),
            [Measured.of(clip) for clip in progress(held_out.audio(version), f"estimators, {version}", len(is_test))],
        )
        for version in VERSIONS
    }

    wanted = prompts([track for track in tracks if track.split == "train"], clips, seed)
    measured, vectors = [], []
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    for index, (style, text, _) in enumerate(progress(wanted, "clips")):
        clip = generator.generate(text, seconds=seconds, seed=seed * 1000 + index)
        measured.append(Measured.of(clip))
        vectors.append(timbre(clip))
        if keep is not None:
            write(keep / f"{index:02d}-{style.replace(' ', '-')}.wav", clip)
    styles, asked = [style for style, _, _ in wanted], [asked for _, _, asked in wanted]
    found = judge.predict(np.stack(vectors))
    ours, chance = obedience(asked, measured), floor(asked, measured)

    report = Report(f"Obedience of {model}: {clips} clips of {seconds:g} s over {len(set(styles))} styles")
    report.add(
        "style found", share(a == b for a, b in zip(styles, found, strict=True)),
        f"held-out {right['real'].mean():.2f}, codec {right['codec'].mean():.2f}, "
        f"chance {_chance_of_style(styles, found):.2f}", at_least=0.60,
    )  # fmt: skip
    for rule, value in ours.tempo.items():
        reference = f"held-out {real['real'].tempo[rule]:.2f}, codec {real['codec'].tempo[rule]:.2f}"
        least = 0.85 if rule == "octave" else None
        report.add(
            f"tempo within 4 %, {rule}", value, f"{reference}, floor {chance.tempo[rule]:.2f}", at_least=least
        )  # fmt: skip
    reference = f"held-out {real['real'].key:.2f}, codec {real['codec'].key:.2f}, floor {chance.key:.2f}"
    report.add("key and mode", ours.key, reference)
    report.add("key, share of that on real renders", ours.key / max(real["real"].key, 1e-9), "1", at_least=0.60)
    report.notes.append(
        f"held-out: {len(is_test)} excerpts of the validation and test pieces; style on the {is_test.sum()} of the "
        f"test pieces alone {right['real'][is_test].mean():.2f}, codec {right['codec'][is_test].mean():.2f}. "
        "Chance and floor: each clip judged by every other prompt."
    )
    names = sorted(set(styles))
    rows = []
    for name in names:
        own = [index for index, style in enumerate(styles) if style == name]
        rows.append((
            name, str(len(own)), f"{share(found[i] == name for i in own):.2f}",
            f"{share(tempo_met(asked[i].tempo_bpm, measured[i].tempo_bpm) for i in own):.2f}",
            f"{share(tempo_met(asked[i].tempo_bpm, measured[i].tempo_bpm, 'strict') for i in own):.2f}",
            f"{share(key_met(asked[i].key, measured[i].key) for i in own):.2f}",
            f"{right['real'][np.array(held_out.styles) == name].mean():.2f}",
        ))  # fmt: skip
    header = ("style", "clips", "style found", "tempo, octave", "tempo, strict", "key", "found on held-out")
    report.table("Style by style", header, rows)
    counts = [
        (a, *(str(sum(s == a and f == b for s, f in zip(styles, found, strict=True))) for b in names)) for a in names
    ]
    report.table("Asked (rows) and heard (columns)", ("", *(name[:9] for name in names)), counts)
    lines = [
        (text, found[i], _number(measured[i].tempo_bpm), str(measured[i].key)) for i, (_, text, _) in enumerate(wanted)
    ]
    report.table("Clip by clip", ("prompt", "style heard", "bpm", "key"), lines)
    report.finish(json)


def _chance_of_style(styles: Sequence[str], found: Sequence[str]) -> float:
    """Share of clips whose style is met by the prompt of another clip."""
    return share(styles[i] == found[j] for i in range(len(styles)) for j in range(len(found)) if i != j)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    typer.run(main)
