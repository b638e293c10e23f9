"""MusicGen models: from the transformers layout or from our own, and the one made into the other."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from audiogen import __version__
from audiogen.codec.encodec import EncodecCodec
from audiogen.files import write_json
from audiogen.foreign import Checkpoint
from audiogen.generation.hub import fetch, is_hub_name
from audiogen.generation.models import LoadedModel, fingerprint_of, lm_fingerprint
from audiogen.interfaces import AudiogenError
from audiogen.lm.engine import Precision, Settled, make_engine, settle_precision
from audiogen.lm.musicgen import MusicGen, MusicGenConfig
from audiogen.lm.sampling import Sampling
from audiogen.lm.text import TextEncoder
from audiogen.storage import Storage, read_json

MODEL_TYPES = ("musicgen", "musicgen_melody")
_META = "CC-BY-NC-4.0"
_UNSTATED = f"not stated in the folder's README.md; Meta's own MusicGen weights are {_META}"


def load_transformers(folder: Path, name: str, precision: Precision, device: torch.device) -> LoadedModel:
    """A checkpoint as transformers writes it. Raises AudiogenError naming what is missing, damaged or foreign."""
    settled = settle_precision(precision, ours=False, device=device)
    checkpoint = Checkpoint(folder)
    codec, lm, text = _parts(checkpoint, _dtype(settled))
    licence = _stated_licence(folder, name)
    _show_licence(name, licence)
    engine = make_engine(lm, settled, device=device)
    return LoadedModel(
        name, codec.to(device), lm, engine, None, fingerprint_of(checkpoint.files), settled, _sampling(folder), device,
        text, licence, folder,
    )  # fmt: skip


def load_converted(folder: Path, told: dict[str, Any], precision: Precision, device: torch.device) -> LoadedModel:
    """What `convert` wrote. Raises AudiogenError naming what is missing, damaged or foreign."""
    settled = settle_precision(precision, ours=False, device=device)
    dtype = _dtype(settled)
    codec, lm = EncodecCodec.load(folder / "codec"), MusicGen.open(folder / "lm", dtype)
    text = TextEncoder.load(folder / "text", dtype)
    _check_codec(codec, lm.config, folder)
    sampling = Sampling.build(told.get("sampling") or {}, f"{folder}/config.json: sampling")
    name, licence = str(told.get("name", folder.name)), str(told.get("licence", _UNSTATED))
    _show_licence(name, licence)
    engine, digest = make_engine(lm, settled, device=device), lm_fingerprint(folder)
    return LoadedModel(
        name, codec.to(device), lm, engine, None, digest, settled, sampling, device, text, licence, folder
    )  # fmt: skip


def convert(source: str | Path, output: str | Path, storage: Storage) -> None:
    """Write a transformers checkpoint, a folder or a name on huggingface.co, as a model folder of ours.

    The codec of an int8 model keeps float16. Raises AudiogenError when `output` is there already, and for a
    checkpoint that does not load.
    """
    output, name = Path(output), str(source)
    if output.exists():
        raise AudiogenError(f"{output}: is there already; remove it or choose another name")
    if not output.absolute().parent.is_dir():
        raise AudiogenError(f"{output}: the folder {output.absolute().parent} does not exist; create it first")
    folder = fetch(name) if is_hub_name(source) else Path(source)
    checkpoint = Checkpoint(folder)
    codec, lm, text = _parts(checkpoint, torch.float32)
    licence = _stated_licence(folder, name)
    beside = output.with_name(f".{output.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir()
        codec.save(beside / "codec", "float16" if storage == "int8" else storage)
        lm.read_all().save(beside / "lm", storage)
        text.save(beside / "text", storage)
        told = {
            "kind": "audiogen",
            "lm": "musicgen",
            "name": name if is_hub_name(source) else folder.resolve().name,
            "version": __version__,
            "licence": licence,
            "sampling": _sampling(folder).model_dump(),
        }
        write_json(beside / "config.json", told)
        os.replace(beside, output)
    except OSError as error:
        raise AudiogenError(f"{output}: the model could not be written: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    _show_licence(str(output), licence)


def _parts(checkpoint: Checkpoint, dtype: torch.dtype) -> tuple[EncodecCodec, MusicGen, TextEncoder]:
    config, source = checkpoint.config, f"{checkpoint.folder}/config.json"
    if config.get("model_type") not in MODEL_TYPES:
        raise AudiogenError(f"{source}: model_type {config.get('model_type')!r}: expected {' or '.join(MODEL_TYPES)}")
    unknown = [name for name in checkpoint.shapes if not name.startswith(_PREFIXES)]
    if unknown:
        raise AudiogenError(f"{checkpoint.folder}: tensors not known: {', '.join(sorted(unknown)[:3])}")
    codec = EncodecCodec.from_transformers(
        # of both kinds the codec is the same: one channel, or two coded apart
        {"model_type": "musicgen", "audio_encoder": config.get("audio_encoder"), "decoder": config.get("decoder")},
        {f"{_AUDIO}{name}": checkpoint.read(f"{_AUDIO}{name}", torch.float32) for name in checkpoint.names(_AUDIO)},
        str(checkpoint.folder),
    )
    lm_config = MusicGenConfig.from_transformers(config, source, codec.sample_rate / codec.hop_length)
    _check_codec(codec, lm_config, checkpoint.folder)
    text = TextEncoder.from_transformers(checkpoint, dtype)
    return codec, MusicGen.open_transformers(checkpoint, lm_config, dtype), text


def _dtype(precision: Settled) -> torch.dtype:
    """What weights are read as: int8 is made from the whole numbers."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _check_codec(codec: EncodecCodec, config: MusicGenConfig, folder: Path) -> None:
    theirs = (codec.num_codebooks, codec.codebook_size, codec.channels, codec.sample_rate / codec.hop_length)
    ours = (config.num_codebooks, config.codebook_size, config.channels, config.frame_rate)
    if theirs != ours:
        raise AudiogenError(
            f"{folder}: codec and language model differ in codebooks, codebook size, channels or frame rate: "
            f"{theirs} and {ours}"
        )


def _sampling(folder: Path) -> Sampling:
    """The settings of `generation_config.json`, and the authors' where it says nothing: guidance 3, the best 250."""
    path = folder / "generation_config.json"
    told = read_json(path) if path.is_file() else {}
    if not isinstance(told, dict):
        raise AudiogenError(f"{path}: expected a JSON object; fetch it again")
    values = {ours: told.get(theirs) for ours, theirs in _SETTINGS.items()}
    if told.get("do_sample") is False:
        values["temperature"] = 0.0
    return Sampling.build(_AUTHORS | {name: value for name, value in values.items() if value is not None}, str(path))


_AUDIO = "audio_encoder."
_PREFIXES = (_AUDIO, "decoder.", "text_encoder.", "enc_to_dec_proj.", "audio_enc_to_dec_proj.")
_AUTHORS = {"guidance": 3.0, "temperature": 1.0, "top_k": 250}
_SETTINGS = {"guidance": "guidance_scale", "temperature": "temperature", "top_k": "top_k"}


def _stated_licence(folder: Path, name: str) -> str:
    """What the model card's front matter says, or what we know of Meta's own."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    front = text.split("---")[1] if text.startswith("---") and text.count("---") >= 2 else ""
    found = re.search(r"^license:[ \t]*([\w.-]+)[ \t]*$", front, re.MULTILINE)
    if found:
        return found[1].upper()
    return _META if name.startswith("facebook/musicgen") else _UNSTATED


def _show_licence(name: str, licence: str) -> None:
    print(f"{name}: licence of the weights: {licence}", file=sys.stderr)
