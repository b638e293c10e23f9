"""Fit the judge of style that scores takes: an excerpt of every training track, as rendered and through the codec.

    python recipes/train_style_judge.py --manifest data/starter/manifest.jsonl -o audiogen/style/listen.safetensors

Prints the share of held-out excerpts whose style is found. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import track as progress

from audiogen.audio.io import read
from audiogen.data.manifest import Track, read_manifest, resolve
from audiogen.evaluation.style_classifier import fit_style_judge
from audiogen.generation.models import LoadedModel, load_model
from audiogen.interfaces import AudiogenError, Waveform
from audiogen.style.listen import SHIPPED, StyleJudge, timbre
from audiogen.training.progress import run_command

_GOLDEN = 0.6180339887  # its multiples, less whole numbers, lie evenly between 0 and 1

Heard = tuple[list[str], np.ndarray, np.ndarray]
"""styles, and timbre `[N, 320]` as rendered and through the codec"""


@torch.inference_mode()
def listen(tracks: Sequence[Track], root: Path, model: LoadedModel, seconds: float) -> Heard:
    """An excerpt of `seconds` from somewhere in each track.

    The codec uses the codebooks that the language model writes.
    """
    codec, books = model.codec, model.lm.config.num_codebooks
    styles, rendered, coded = [], [], []
    for index, track in enumerate(progress(tracks, "listening")):
        start = index * _GOLDEN % 1 * max(0.0, track.seconds - seconds)
        clip = read(resolve(root, track), codec.sample_rate, codec.channels, start, seconds)
        copy = codec.decode(codec.encode(clip.samples[None])[:, :books])[0, :, : clip.samples.shape[1]]
        styles.append(str(track.style))
        rendered.append(timbre(clip))
        coded.append(timbre(Waveform(copy, clip.sample_rate)))
    return styles, np.stack(rendered), np.stack(coded)


def main(manifest: Path, root: Path, model: str, output: Path, seconds: float) -> StyleJudge:
    """Fit on the split "train" of `manifest`, write the judge to `output`, print how often it is right elsewhere."""
    tracks = [track for track in read_manifest(manifest) if track.style]
    train, held_out = ([track for track in tracks if (track.split == "train") is own] for own in (True, False))
    if not train or not held_out:
        raise AudiogenError(f"{manifest}: no tracks with a style to train on, or none held out to test with")
    loaded = load_model(model, device="cpu")
    styles, *heard = listen(train, root, loaded, seconds)
    judge = fit_style_judge(np.concatenate(heard), styles * len(heard))
    judge.save(output)
    print(f"{output}: {len(judge.styles)} styles from {len(train)} tracks, {output.stat().st_size:,} bytes")
    styles, *heard = listen(held_out, root, loaded, seconds)
    for name, vectors in zip(("as rendered", "through the codec"), heard, strict=True):
        right, sure = judge.accuracy(vectors, styles), judge.probabilities(vectors).max(1).mean()
        print(f"{len(styles)} held-out excerpts {name}: {right:.2f} right, mean confidence {sure:.2f}")
    return judge


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, default=Path("data/starter/manifest.jsonl"))
    parser.add_argument("--root", type=Path, help="folder of the audio; else the manifest's own")
    parser.add_argument("--model", default="mini", help="whose codec the excerpts go through")
    parser.add_argument("-o", "--output", type=Path, default=SHIPPED)
    parser.add_argument("--seconds", type=float, default=20.0)
    told = parser.parse_args()
    root = told.root or told.manifest.parent
    run_command(lambda: main(told.manifest, root, told.model, told.output, told.seconds))
