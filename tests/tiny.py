"""Small real things to test with: notes that sound, a catalogue of three tracks, models of a few thousand weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import audiogen
from audiogen.audio.io import read, write
from audiogen.codec.spectral import SpectralCodec, SpectralCodecConfig
from audiogen.data.manifest import Track, write_manifest
from audiogen.files import sha256_file, write_json
from audiogen.interfaces import Waveform
from audiogen.lm.model import MusicLM, MusicLMConfig
from audiogen.lm.recurrent import RecurrentConfig
from audiogen.lm.transformer import TransformerConfig
from audiogen.style.ears import Ears, EarsConfig

RATE = 16_000
CODEC = SpectralCodecConfig(
    sample_rate=RATE, hop_length=640, short_hop=160, long_window=1280, long_hz=2000, top_hz=8000,
    num_oscillators=84, pitch_dim=16,
    fast_dim=16, slow_dim=16, encoder_fast_depth=1, encoder_slow_depth=2, decoder_slow_depth=1, decoder_fast_depth=2,
    fast_expansion=2, slow_expansion=2, latent_dim=8, num_codebooks=4, codebook_size=32,
)  # fmt: skip
TRANSFORMER = TransformerConfig(dim=32, depth=2, heads=4, kv_heads=2, hidden=48, window_frames=8)
LM = MusicLMConfig(num_codebooks=4, codebook_size=32, code_dim=8, transformer=TRANSFORMER)
LSTM = MusicLMConfig(
    num_codebooks=4, codebook_size=32, code_dim=8, recurrent=RecurrentConfig(dim=32, depth=2, hidden=40)
)
EARS = EarsConfig(timbre=(4, 6, 8, 8), pitch=(4, 6, 8), key=12, onsets=4, tempo=8, embedding=16)
MINI = Path(audiogen.__file__).parent / "models" / "mini"


def notes(seconds: float, sample_rate: int = RATE, seed: int = 0) -> torch.Tensor:
    """Plucked notes of a minor scale, four a second, panned by chance: float32 `[2, S]`."""
    random = np.random.default_rng(seed)
    audio = np.zeros((2, round(seconds * sample_rate)))
    for first in range(0, audio.shape[1], sample_rate // 4):
        time = np.arange(min(sample_rate, audio.shape[1] - first)) / sample_rate
        pitch = 110 * 2 ** (random.choice([0, 2, 3, 5, 7, 8, 10, 12, 15]) / 12)
        tone = sum(np.sin(2 * np.pi * pitch * partial * time) / partial for partial in range(1, 6))
        left = random.uniform(0.2, 0.8)
        audio[:, first : first + len(time)] += np.outer([left, 1 - left], 0.2 * np.exp(-4 * time) * tone)
    return torch.from_numpy(audio.astype(np.float32))


def codec(seed: int = 0, config: SpectralCodecConfig = CODEC) -> SpectralCodec:
    """A codec of random weights, its codebooks started from data."""
    torch.manual_seed(seed)
    made = SpectralCodec(config)
    heard = torch.stack([notes(3.0, config.sample_rate, seed) for seed in range(4)])
    frames = heard.shape[2] // config.hop_length * config.hop_length
    with torch.no_grad():
        latents, _ = made.encode_latents(heard[:, :, :frames], made.encoder_state(4))
        made.quantizer.start_from(latents.flatten(0, 1))
    return made.eval().requires_grad_(False)


def language_model(seed: int = 0, config: MusicLMConfig = LM) -> MusicLM:
    """A language model of random weights, large enough for every input to matter."""
    torch.manual_seed(seed)
    made = MusicLM(config)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim == 2 and float(weight.std()) < 0.05:
                weight.mul_(10)
    return made.eval().requires_grad_(False)


def ears(seed: int = 0) -> Ears:
    """A tagger's network of random weights, every branch of which says something."""
    torch.manual_seed(seed)
    return Ears(EARS).eval().requires_grad_(False)


def catalogue(root: Path, seconds: float = 4.0) -> list[Track]:
    """Three labelled tracks, two to train on and one to validate with; `root/manifest.jsonl` tells of them."""
    root.mkdir(parents=True, exist_ok=True)
    tracks = []
    for index, split in enumerate(("train", "train", "validation")):
        audio = notes(seconds, seed=index)
        write(root / f"{index}.wav", Waveform(audio, RATE))
        told = {
            "path": f"{index}.wav", "sha256": sha256_file(root / f"{index}.wav"), "sample_rate": RATE, "channels": 2,
            "samples": audio.shape[1], "split": split, "licence": "CC0-1.0", "rights_holder": "audiogen",
            "composition": str(index), "captions": ["a calm harp"], "style": "folk", "moods": ["calm"],
            "instruments": ["harp"], "tempo_bpm": 240.0, "key": "A minor", "beats_per_bar": 4,
            "beats_seconds": list(np.arange(0, seconds, 0.25)), "downbeats_seconds": list(np.arange(0, seconds, 1.0)),
            "chords": [(0.0, "A:min")], "sections": [(0.0, "intro"), (seconds / 2, "outro")],
            "energy": [(0.0, 0.2), (seconds, 0.6)], "parts": [(0.0, ["harp"])],
        }  # fmt: skip
        tracks.append(Track.model_validate(told))
    write_manifest(root / "manifest.jsonl", tracks)
    return tracks


def prepared(folder: Path, tracks: list[Track]) -> None:
    """`folder/codec`, a tiny codec, and `folder/codes`, the codes it makes of `tracks` under `folder`."""
    made = codec()
    made.save(folder / "codec", "float32")
    (folder / "codes").mkdir()
    write_json(folder / "codes" / "index.json", {"codec": made.fingerprint, "num_codebooks": made.num_codebooks})
    for track in tracks:
        codes = made.encode(read(folder / track.path).samples[None])[0].T
        np.save(folder / "codes" / f"{track.sha256[:32]}.npy", codes.numpy().astype(np.int16))
