"""Where models live and how they load.

A model is a folder with `config.json`, `codec/`, `lm/` and, if it has its own, `habits.json`; or a MusicGen, in the
layout of transformers, by its name on huggingface.co, or as `audiogen convert` writes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen.interfaces import AudiogenError
from audiogen.storage import read_json

if TYPE_CHECKING:
    import torch

    from audiogen.interfaces import Codec
    from audiogen.lm.engine import Engine, Precision, Settled
    from audiogen.lm.model import MusicLM
    from audiogen.lm.musicgen import MusicGen
    from audiogen.lm.sampling import Sampling
    from audiogen.lm.text import TextEncoder
    from audiogen.style.habits import Habits

SHIPPED = Path(__file__).parent.parent / "models"


@dataclass(frozen=True)
class LoadedModel:
    """Everything generation needs; shared and stateless."""

    name: str
    codec: Codec
    lm: MusicLM | MusicGen
    """its prefix; the other weights may be the engine's by now"""
    engine: Engine
    habits: Habits | None
    """what the planner knows; None for a MusicGen, which follows its text alone"""
    fingerprint: str
    precision: Settled
    sampling: Sampling
    """how codes are drawn when the request does not say"""
    device: torch.device
    """where codec and engine are; codes and audio are handed out on the CPU"""
    text: TextEncoder | None = None
    """reads a MusicGen's prompt"""
    licence: str | None = None
    """of weights that are not ours"""
    folder: Path | None = None
    """where it was loaded from"""


def shipped_models() -> list[str]:
    """Names that need no path."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))


def model_folder(name: str | Path) -> Path:
    """The folder of a shipped model or of a path. Raises AudiogenError naming what there is."""
    for folder in (SHIPPED / name, Path(name)):
        if (folder / "config.json").is_file():
            return folder
    known = ", ".join(shipped_models()) or "none"
    raise AudiogenError(f"no model {str(name)!r}: neither a shipped one ({known}) nor a folder with a config.json")


def load_model(name: str | Path, precision: Precision = "auto", device: str = "auto") -> LoadedModel:
    """Load codec, language model and what goes with them onto `device`: auto, cpu, cuda or cuda:1.

    Raises AudiogenError for a GPU that is not there, and when something is missing, damaged or foreign.
    """
    from audiogen.generation.hub import fetch, is_hub_name
    from audiogen.lm.engine import settle_device

    there = settle_device(device, precision)
    folder = fetch(str(name)) if is_hub_name(name) else model_folder(name)
    told = read_json(folder / "config.json")
    if not isinstance(told, dict):
        raise AudiogenError(f"{folder}/config.json: expected a JSON object; fetch the model again")
    if "model_type" in told:
        from audiogen.generation.musicgen import load_transformers

        return load_transformers(folder, str(name) if is_hub_name(name) else folder.resolve().name, precision, there)
    if told.get("kind") != "audiogen":
        raise AudiogenError(f"{folder}: not an audiogen model, as its config.json would say")
    if told.get("lm") == "musicgen":
        from audiogen.generation.musicgen import load_converted

        return load_converted(folder, told, precision, there)
    return _load_own(folder, told, precision, there)


def _load_own(folder: Path, told: dict[str, Any], precision: Precision, device: torch.device) -> LoadedModel:
    from audiogen.codec.spectral import SpectralCodec
    from audiogen.lm.engine import make_engine, settle_precision
    from audiogen.lm.model import MusicLM
    from audiogen.lm.sampling import Sampling
    from audiogen.style.habits import Habits

    codec, lm = SpectralCodec.load(folder / "codec"), MusicLM.load(folder / "lm")
    if told.get("codec") != codec.fingerprint:
        raise AudiogenError(
            f"{folder}: its language model was trained on codes of the codec {told.get('codec')}, but codec/ holds "
            f"{codec.fingerprint}"
        )
    sizes = (codec.codebook_size, codec.sample_rate / codec.hop_length)
    if sizes != (lm.config.codebook_size, lm.config.frame_rate) or lm.config.num_codebooks > codec.num_codebooks:
        raise AudiogenError(f"{folder}: codec and language model differ in codebooks, codebook size or frame rate")
    settled = settle_precision(precision, recurrent=lm.config.recurrent is not None, device=device)
    own = folder / "habits.json"
    habits = Habits.load(own if own.is_file() else None)
    name, fingerprint = str(told.get("name", folder.name)), lm_fingerprint(folder)
    engine = make_engine(lm, settled, device=device)
    codec = codec.to(device)
    return LoadedModel(name, codec, lm, engine, habits, fingerprint, settled, Sampling(), device, folder=folder)


def lm_fingerprint(folder: Path) -> str:
    """Hash of the language model's files, 16 hexadecimal digits."""
    return fingerprint_of(sorted((folder / "lm").iterdir()))


def fingerprint_of(paths: Iterable[Path]) -> str:
    """Hash of files, their names included, 16 hexadecimal digits."""
    import hashlib

    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
