"""Where models live and how they load.

A model is a folder with `config.json`, `codec/`, `lm/` and, if it has its own, `habits.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from audiogen.interfaces import AudiogenError
from audiogen.storage import read_json

if TYPE_CHECKING:
    from audiogen.codec.spectral import SpectralCodec
    from audiogen.lm.model import MusicLM
    from audiogen.style.habits import Habits

SHIPPED = Path(__file__).parent.parent / "models"
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class LoadedModel:
    """Everything generation needs; shared and stateless."""

    name: str
    codec: SpectralCodec
    lm: MusicLM
    habits: Habits
    fingerprint: str
    precision: Precision


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


def load_model(name: str | Path, precision: Precision = "auto") -> LoadedModel:
    """Load codec, language model and habits. Raises AudiogenError when something is missing, damaged or foreign."""
    import torch

    from audiogen.codec.spectral import SpectralCodec
    from audiogen.lm.model import MusicLM
    from audiogen.style.habits import Habits

    folder = model_folder(name)
    told = read_json(folder / "config.json")
    if not isinstance(told, dict) or told.get("kind") != "audiogen":
        raise AudiogenError(f"{folder}: not an audiogen model, as its config.json would say")
    codec, lm = SpectralCodec.load(folder / "codec"), MusicLM.load(folder / "lm")
    if told.get("codec") != codec.fingerprint:
        raise AudiogenError(
            f"{folder}: its language model was trained on codes of the codec {told.get('codec')}, but codec/ holds "
            f"{codec.fingerprint}"
        )
    sizes = (codec.codebook_size, codec.sample_rate / codec.hop_length)
    if sizes != (lm.config.codebook_size, lm.config.frame_rate) or lm.config.num_codebooks > codec.num_codebooks:
        raise AudiogenError(f"{folder}: codec and language model differ in codebooks, codebook size or frame rate")
    if precision == "auto":
        fast = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_avx512_bf16_supported()
        precision = "bfloat16" if fast else "float32"
    if precision == "bfloat16":
        lm = lm.to(torch.bfloat16)
    own = folder / "habits.json"
    habits = Habits.load(own if own.is_file() else None)
    return LoadedModel(str(told.get("name", folder.name)), codec, lm, habits, lm_fingerprint(folder), precision)


def lm_fingerprint(folder: Path) -> str:
    """Hash of the language model's files, 16 hexadecimal digits."""
    import hashlib

    digest = hashlib.sha256()
    for path in sorted((folder / "lm").iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
