"""A MusicGen past its positions: windows of 30 s, each begun with the last 12 s of the one before. Do the seams show?

Random weights of a small shape, in transformers' layout, at 32 kHz: what it plays is noise without form. So this says
whether the stream makes seams, not whether a trained model goes on with its tune.

python benchmarks/musicgen_seams.py --json runs/musicgen_seams.json
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from report import Report, two_cores
from torch import Tensor

from audiogen.audio.seams import Seam, seam
from audiogen.codec.encodec import EncodecCodec
from audiogen.foreign import Checkpoint
from audiogen.interfaces import Waveform
from audiogen.lm.musicgen import MusicGen, MusicGenConfig
from audiogen.lm.native import NativeEngine
from audiogen.lm.sampling import Sampling
from audiogen.lm.stream import CodeStream, WindowedStream

TOKENS = 8
CHUNK = 50  # frames; windows and strides are multiples of it
SAMPLING = Sampling(guidance=3.0, temperature=1.0, top_k=250)
_AUDIO = "audio_encoder."


def theirs() -> Any:
    """transformers' own model with random weights: 4 layers x 128, 50 frames of 4 x 2048 codes a second, 32 kHz."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    config = transformers.MusicgenConfig(
        text_encoder=transformers.T5Config(vocab_size=20, d_model=64, d_kv=8, d_ff=32, num_layers=1, num_heads=2),
        audio_encoder=transformers.EncodecConfig(
            sampling_rate=32_000, audio_channels=1, normalize=False, use_causal_conv=False, hidden_size=32,
            num_filters=4, upsampling_ratios=[8, 5, 4, 4], codebook_size=2048, codebook_dim=32, num_lstm_layers=1,
            target_bandwidths=[4 * 11 * 50 / 1000],
        ),
        decoder={
            "vocab_size": 2048, "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "ffn_dim": 512,
            "max_position_embeddings": 2048, "num_codebooks": 4, "pad_token_id": 2048, "bos_token_id": 2048,
            "initializer_factor": 0.3,
        },
    )  # fmt: skip
    made = transformers.MusicgenForConditionalGeneration(config).eval()
    for name, value in made.named_buffers():
        if name.endswith("codebook.embed"):  # zeros otherwise, and every sound the same
            value.normal_()
    return made


def load(folder: Path) -> tuple[EncodecCodec, MusicGen]:
    """Our codec and language model of that checkpoint."""
    checkpoint = Checkpoint(folder)
    codec = EncodecCodec.from_transformers(
        {name: checkpoint.config[name] for name in ("model_type", "audio_encoder", "decoder")},
        {f"{_AUDIO}{name}": checkpoint.read(f"{_AUDIO}{name}", torch.float32) for name in checkpoint.names(_AUDIO)},
        str(folder),
    )
    config = MusicGenConfig.from_transformers(checkpoint.config, str(folder), codec.sample_rate / codec.hop_length)
    return codec, MusicGen.open_transformers(checkpoint, config, torch.bfloat16)


def resident() -> int:
    """Bytes of this process in memory now."""
    return 1024 * int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])


def again(engine: NativeEngine, prefix: Tensor, clip: Tensor, window: int, seed: int) -> tuple[Tensor, Tensor]:
    """The new frames of a window, and what comes when a stream of one window is given the codes before them."""
    config = engine.config
    first, kept = window * config.stride_frames, config.window_frames - config.stride_frames
    drawn = window * (config.window_frames + max(config.delays))  # random numbers that earlier windows used
    prompt = clip[0, :, first : first + kept]
    alone = CodeStream(
        engine, prefix, lambda first, frames: np.zeros((frames, 0), np.float32), SAMPLING, seed, prompt,
        config.window_frames, drawn,
    )  # fmt: skip
    return clip[:, :, first + kept : first + config.window_frames], alone.advance(config.stride_frames)


class Clip(NamedTuple):
    """Codes `[1, K, T]`, what the codec makes of them, and of each stride processor seconds a frame and bytes held."""

    codes: Tensor
    sound: Waveform
    times: list[float]
    resident: list[int]


@torch.inference_mode()
def play(codec: EncodecCodec, stream: WindowedStream, frames: int, first: int) -> Clip:
    """`first` frames and then strides, into room that is there before, so that what grows is the stream's."""
    config, decoder, done = stream.engine.config, codec.streaming_decoder(1), 0
    assert isinstance(config, MusicGenConfig)
    codes = torch.ones(1, config.num_codebooks, frames, dtype=torch.long)
    samples = torch.ones(1, codec.channels, frames * codec.hop_length)
    times: list[float] = []
    held: list[int] = []
    began = time.process_time()
    for start in range(0, frames, CHUNK):
        if start >= first and (start - first) % config.stride_frames == 0:
            times.append((time.process_time() - began) / config.stride_frames)
            held.append(resident())
            began = time.process_time()
        codes[:, :, start : start + CHUNK] = stream.advance(CHUNK)
        part = decoder.decode(codes[:, :, start : start + CHUNK])
        samples[:, :, done : done + part.shape[2]] = part
        done += part.shape[2]
    times.append((time.process_time() - began) / config.stride_frames)
    held.append(resident())
    return Clip(codes, Waveform(samples[0, :, :done], codec.sample_rate), times[1:], held[1:])


def main(
    windows: Annotated[int, typer.Option(help="after the first, of each clip")] = 8,
    clips: int = 2,
    json: Annotated[Path | None, typer.Option(help="save the table")] = None,
) -> None:
    """Print the table."""
    two_cores()
    with tempfile.TemporaryDirectory() as at:
        theirs().save_pretrained(at)
        codec, model = load(Path(at))
        engine, config = NativeEngine(model, "bfloat16", torch.get_num_threads()), model.config
    with torch.inference_mode():
        prefix = model.prefix(torch.randn(1, TOKENS, config.text_dim))
    rate, stride = config.frame_rate, config.stride_frames
    kept = config.window_frames - stride
    found: list[Seam] = []
    same: list[float] = []
    times: list[list[float]] = []
    grown: list[float] = []
    frames = kept + (windows + 1) * stride
    for seed in range(clips):
        clip = play(codec, WindowedStream(engine, lambda first: prefix, SAMPLING, seed), frames, kept)
        for window in range(1, windows + 1):
            found.append(seam(clip.sound, (window * stride + kept) / rate))
            given, expected = again(engine, prefix, clip.codes, window, seed)
            same.append(float((given == expected).float().mean()))
        times.append(clip.times)
        grown.append((clip.resident[-1] - clip.resident[1]) / 2**20)
    report = Report(f"{len(found)} seams of {clips} clips of {frames / rate:g} s, 4 layers x 128, random weights")
    told = f"{kept / rate:g} s of {config.window_frames / rate:g} s kept, stride {stride / rate:g} s"
    report.add("new codes that are those of a window given the codes before", float(np.mean(same)), told, at_least=1.0)
    for name in ("level", "spectrum"):
        ranks = [getattr(one, f"{name}_rank") for one in found]
        steps = [getattr(one, f"{name}_db") for one in found]
        report.add(f"rank of the step of {name}, mean", float(np.mean(ranks)), "a random moment: 0.50")
        report.add("— share below the 95th percentile around", float(np.mean(np.array(ranks) <= 0.95)), "0.95")
        report.add(f"step of {name} at a seam, dB, median", median(steps), form="{:.3f}")
    room = sum(part.nbytes for row in engine.begin(prefix).memories for part in row) / 2**20
    told = "law 4: none; a window that stayed would be the limit"
    report.add("memory, the end against the second window, MiB", max(grown), told, at_most=room)
    ratio = median(took[-1] / took[0] for took in times)
    report.add("time a frame, the last stride against the first", ratio, f"{1e3 * times[0][0]:.2f} ms")
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
