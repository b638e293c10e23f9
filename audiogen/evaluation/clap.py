"""How far clips are from held-out music to the ear of CLAP (Wu et al. 2023), when its weights are at hand.

The tagger heard the music that the model learned from; CLAP did not. Its weights, `laion/larger_clap_music`, are
fetched when they are asked for, or lie in a folder; transformers reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from audiogen.audio.io import read
from audiogen.evaluation.systems import Progress
from audiogen.files import atomic_path, sha256_file
from audiogen.generation.hub import cached, fetch, is_hub_name
from audiogen.interfaces import AudiogenError
from audiogen.lm.text import library
from audiogen.workers import spread

NAME = "laion/larger_clap_music"
WINDOW_SECONDS = 10.0
VERSION = 1
_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
_HOW = (
    'python -c "from transformers import ClapFeatureExtractor as F, ClapModel as M; '
    f"[each.from_pretrained('{NAME}').save_pretrained('clap') for each in (F, M)]\" fetches them (0.8 GB), and "
    "--clap clap reads them"
)


class NotAtHand(Exception):  # noqa: N818  a state of affairs that a report tells
    """Why there are no weights, and how to get them."""


def find_weights(source: str | None) -> Path:
    """The folder of CLAP's weights: `source`, a folder or a name on the hub, which is fetched; without one, what was
    fetched before.

    Raises NotAtHand when there are none, AudiogenError for a folder that holds none and for what is no name.
    """
    if source is not None and Path(source).is_dir():
        folder = Path(source)
        for name in _FILES:
            if not (folder / name).is_file():
                raise AudiogenError(f"{folder}: holds no {name}, so it is no CLAP; {_HOW}")
    elif source is not None and not is_hub_name(source):
        raise AudiogenError(f"--clap {source}: neither a folder nor a name such as {NAME}")
    else:
        try:
            found = cached(NAME) if source is None else fetch(source)
        except AudiogenError:
            found = None
        if found is None or not all((found / name).is_file() for name in _FILES):
            raise NotAtHand(f"the weights of {source or NAME} are not at hand as safetensors; {_HOW}")
        folder = found
    try:
        library()
    except AudiogenError as error:
        raise NotAtHand(str(error)) from None
    return folder


def embeddings(folder: Path, paths: Sequence[Path], kept: Path, jobs: int, progress: Progress) -> np.ndarray:
    """CLAP's vectors of every whole window of 10 s of the files, of unit length, float32 `[N, D]`; `kept` is a folder
    for what is done."""
    kept.mkdir(parents=True, exist_ok=True)
    weights = f"{VERSION} {' '.join(sha256_file(folder / name) for name in _FILES)}"
    keys = {path: hashlib.sha256(f"{weights} {sha256_file(path)}".encode()).hexdigest()[:24] for path in paths}
    files = {path: kept / f"{key}.npy" for path, key in keys.items()}
    missing = [path for path in paths if not files[path].is_file()]
    done = len(paths) - len(missing)
    progress(done, len(paths))
    for path, rows in spread(partial(_embed, folder), missing, jobs):
        with atomic_path(files[path]) as temporary:
            np.save(temporary, rows, allow_pickle=False)
        done += 1
        progress(done, len(paths))
    return np.concatenate([np.load(files[path], allow_pickle=False) for path in paths])


def _embed(folder: Path, path: Path) -> np.ndarray:
    import torch

    extractor, model = _model(folder)
    sound = read(path, extractor.sampling_rate, 1).samples[0].numpy()
    size = round(WINDOW_SECONDS * extractor.sampling_rate)
    starts = range(0, max(1, len(sound) - size + 1), size)
    rows = []
    with torch.inference_mode():
        for start in starts:
            given = extractor(sound[start : start + size], sampling_rate=extractor.sampling_rate, return_tensors="pt")
            heard = model.audio_projection(model.audio_model(**given).pooler_output)
            rows.append(torch.nn.functional.normalize(heard, dim=1)[0].numpy())
    return np.stack(rows).astype(np.float32)


@lru_cache(maxsize=1)
def _model(folder: Path) -> tuple[Any, Any]:
    """CLAP's features and the model. Raises AudiogenError for weights that do not fit."""
    from safetensors import SafetensorError

    transformers = library()
    try:
        extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
        model = transformers.ClapModel.from_pretrained(folder, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise AudiogenError(f"{folder}: cannot be read as CLAP: {str(error).splitlines()[0]}") from None
    return extractor, model.eval().float()
