"""What the tagger hears of every track, computed once: as recorded, and an excerpt through the codec.

`FOLDER/index.json` says through which codec; `FOLDER/DIGEST.safetensors` is named by the first 32 digits of the SHA-256
of the audio.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from audiogen.codec.spectral import SpectralCodec
from audiogen.data.manifest import Track, resolve
from audiogen.files import atomic_path, write_json
from audiogen.interfaces import AudiogenError, Waveform
from audiogen.storage import read_json
from audiogen.style.hearing import VERSION, Heard, hear, hear_file

_GRID_HZ = 12.5  # excerpts begin on a frame of codes and of what is heard


def prepare_heard(
    tracks: Sequence[Track], root: str | Path, codes: str | Path, codec_folder: str | Path, codebooks: int,
    excerpt_seconds: float, folder: str | Path,
) -> Iterator[Track]:  # fmt: skip
    """Listen to each track and to an excerpt of it decoded from the first `codebooks` of its prepared codes.

    Yields each track when it is done; what is there already is skipped. Raises AudiogenError for missing audio or
    codes, and for a folder that was filled through another codec.
    """
    from audiogen.data.codes import PreparedCodes

    folder = Path(folder)
    codec = SpectralCodec.load(codec_folder)
    prepared = PreparedCodes(codes, tracks, codec_folder)
    told = {"hearing": VERSION, "codec": codec.fingerprint, "codebooks": codebooks, "seconds": excerpt_seconds}
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "index.json").exists():
        write_json(folder / "index.json", told)
    if read_json(folder / "index.json") != told:
        raise AudiogenError(f"{folder}: was filled otherwise ({read_json(folder / 'index.json')}); remove it")
    for index, track in enumerate(tracks):
        path = _file(folder, track)
        if not path.exists():
            start = excerpt_start(track, excerpt_seconds)
            excerpt = _decoded(codec, prepared[index], codebooks, start, excerpt_seconds)
            _write(path, hear_file(resolve(root, track)), hear(excerpt))
        yield track


def load_heard(folder: str | Path, track: Track) -> tuple[Heard, Heard]:
    """As recorded, and the excerpt through the codec. Raises AudiogenError where it is not prepared."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = _file(Path(folder), track)
    try:
        tensors = load_file(path)
        return tuple(Heard(tensors[f"{name}.mel"], tensors[f"{name}.semitones"]) for name in ("own", "codec"))  # type: ignore[return-value]
    except (OSError, SafetensorError, KeyError) as error:
        raise AudiogenError(
            f"{path}: what is heard of {track.path} is missing or damaged ({error}); remove the file and run "
            "recipes/train_tagger.py again"
        ) from None


def load_parts(path: str | Path) -> dict[str, np.ndarray]:
    """Which instruments play when, by the SHA-256 of the track: uint8 `[29, T]`, 12.5 frames a second.

    Raises AudiogenError for a file that is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise AudiogenError(
            f"{path}: missing or damaged ({error}); make it with recipes/starter_catalogue/parts.py, or give parts=''"
        ) from None


def excerpt_start(track: Track, seconds: float) -> float:
    """Where the excerpt that goes through the codec begins, in seconds: somewhere that depends on the audio alone."""
    place = int(track.sha256[:8], 16) / 2**32
    return math.floor(place * max(0.0, track.seconds - seconds) * _GRID_HZ) / _GRID_HZ


def _decoded(codec: SpectralCodec, codes: np.ndarray, codebooks: int, start_seconds: float, seconds: float) -> Waveform:
    import torch

    rate = codec.sample_rate / codec.hop_length
    start = round(start_seconds * rate)
    part = torch.from_numpy(codes[start : start + round(seconds * rate), :codebooks].astype(np.int64)).T[None]
    with torch.inference_mode():
        return Waveform(codec.decode(part)[0], codec.sample_rate)


def _write(path: Path, own: Heard, coded: Heard) -> None:
    from safetensors.numpy import save

    tensors = {
        f"{name}.{kind}": np.ascontiguousarray(getattr(heard, kind))
        for name, heard in (("own", own), ("codec", coded))
        for kind in ("mel", "semitones")
    }
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors))


def _file(folder: Path, track: Track) -> Path:
    return folder / f"{track.sha256[:32]}.safetensors"
