"""Commands that turn recordings, codes and models into others, or explain a clip."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from audiogen.cli.app import app, check_output, codec, progress_bar
from audiogen.interfaces import AudiogenError


@app.command("morph")
def morph_command(
    first: Path,
    second: Path,
    output: Annotated[Path, typer.Option("-o", "--output", help="a .wav file")],
    codec_folder: Annotated[Path | None, typer.Option("--codec", help="a codec's folder; else that of mini")] = None,
) -> None:
    """Turn one recording into another, as long as the shorter. Example: audiogen morph A.wav B.wav -o OUT.wav"""
    from audiogen.generation.models import model_folder
    from audiogen.generation.reshape import morph

    check_output(output)
    with progress_bar(str(output)) as progress:
        seconds = morph(first, second, output, codec_folder or model_folder("mini") / "codec", progress)
    print(f"{output}: {seconds:.2f} s", file=sys.stderr)


@app.command("upsample")
def upsample_command(
    audio: Path,
    output: Annotated[Path, typer.Option("-o", "--output", help="a .wav file")],
    codec_folder: Annotated[Path | None, typer.Option("--codec", help="a codec's folder; else that of mini")] = None,
) -> None:
    """Bring a recording of 8 to 16 kHz to 48 kHz. Example: audiogen upsample OLD.wav -o NEW.wav"""
    from audiogen.generation.models import model_folder
    from audiogen.generation.reshape import upsample

    check_output(output)
    with progress_bar(str(output)) as progress:
        cut_hz = upsample(audio, output, codec_folder or model_folder("mini") / "codec", progress)
    print(f"{output}: as recorded up to {cut_hz:,.0f} Hz, made up above", file=sys.stderr)


@app.command("continue")
def continue_command(
    audio: Path,
    prompt: Annotated[str | None, typer.Argument(help="what comes; what it leaves open is as in the recording")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="a .wav file: the recording and what follows")] = Path(
        "continued.wav"
    ),
    model: Annotated[str, typer.Option(help="a shipped model, a model folder or a MusicGen")] = "mini",
    seconds: Annotated[float | None, typer.Option(help="of what follows; else the prompt's, else 60")] = None,
    seed: Annotated[int | None, typer.Option(help="the same seed gives the same clip; random if not given")] = None,
    bpm: Annotated[float | None, typer.Option(help="tempo; wins over prompt and recording")] = None,
    key: Annotated[str | None, typer.Option(help="such as 'D minor'; wins over prompt and recording")] = None,
    plot: Annotated[bool, typer.Option("--plot", help="also a picture")] = False,
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
) -> None:
    """Let a recording go on, in its tempo and key. Example: audiogen continue IN.wav "calmer, strings" --seconds 60"""
    from audiogen.audio.io import read_header
    from audiogen.generation.continuation import continue_recording, render_continuation
    from audiogen.generation.generator import Generator

    check_output(output)
    read_header(audio)
    generator = Generator.from_pretrained(model, "auto", threads)
    made = continue_recording(generator, audio, prompt, seconds, seed, bpm=bpm, key_name=key)
    if made.cut_seconds:
        print(f"{audio}: {made.cut_seconds:.2f} s of silence at its end left out", file=sys.stderr)
    if generator.model.habits is None:
        context = made.context_samples / generator.sample_rate
        print(f"{audio}: goes on from its last {context:.2f} s", file=sys.stderr)
    else:
        told = made.request.attributes
        heard = f"{made.grid.tempo_bpm:.1f} bpm" if made.grid else "no steady beat"
        print(f"{audio}: heard {heard}; goes on as {told.style}, {told.tempo_bpm:.1f} bpm, {told.key}", file=sys.stderr)
    with progress_bar(str(output)) as progress:
        done = render_continuation(generator, made, audio, output, "PCM_16", plot, progress)
    joined = f"joined at {made.recording.seconds:.2f} s, seed {made.seed}"
    print(f"{output}: {done.seconds:.2f} s in {done.took_seconds:.1f} s, {joined}", file=sys.stderr)


@app.command("explain")
def explain_command(
    record: Annotated[Path, typer.Argument(help="the JSON beside a clip")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="OUT.png and OUT.html are written")] = None,
    model: Annotated[str, typer.Option(help="the model that made it")] = "mini",
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
) -> None:
    """Draw what the model was told and did, and where it looked. Example: audiogen explain clip.json -o inside"""
    from audiogen.generation.explain import explain, outputs
    from audiogen.generation.generator import Generator
    from audiogen.generation.render import from_record, recorded_device, recorded_precision

    target = output or record.with_name(f"{record.stem}-explained")
    outputs(target)
    precision = recorded_precision(record) or "auto"
    device = recorded_device(record)
    generator = Generator.from_pretrained(model, precision, threads, device)  # type: ignore[arg-type]
    clip = record.with_suffix(".wav")
    with progress_bar(str(target)) as progress:
        made = explain(generator, from_record(record, generator), target, clip if clip.exists() else None, progress)
    print(" and ".join(map(str, made)), file=sys.stderr)


@app.command("convert")
def convert_command(
    source: Annotated[str, typer.Argument(help="a MusicGen: its folder or its name on huggingface.co")],
    output: Annotated[Path, typer.Argument(help="the model folder to write")],
    storage: Annotated[str, typer.Option(help="float32, float16 or int8")] = "float16",
) -> None:
    """A MusicGen into a model folder of ours. Example: audiogen convert facebook/musicgen-small small --storage int8"""
    from audiogen.generation.musicgen import convert

    if storage not in ("float32", "float16", "int8"):
        raise AudiogenError(f"--storage {storage}: expected float32, float16 or int8")
    convert(source, output, storage)  # type: ignore[arg-type]
    print(f"{output}: stored as {storage}", file=sys.stderr)


@codec.command("encode")
def codec_encode(
    audio: Path,
    output: Annotated[Path, typer.Option("-o", "--output", help="an .agc file")],
    codebooks: Annotated[int | None, typer.Option(help="fewer make a smaller file; all if not given")] = None,
    model: Annotated[str, typer.Option(help="a shipped model or a model folder")] = "mini",
) -> None:
    """Audio file to codes. Example: audiogen codec encode IN.wav -o OUT.agc --codebooks 8"""
    from audiogen.generation.transcode import encode_file

    coded, size = encode_file(audio, output, model, codebooks)
    books, frames = coded.codes.shape
    seconds = coded.samples / coded.sample_rate
    told = f"{seconds:.2f} s, {frames} frames of {books} codebooks, {coded.kbps:g} kbps, {size:,} bytes"
    print(f"{output}: {told}", file=sys.stderr)


@codec.command("decode")
def codec_decode(
    codes: Path,
    output: Annotated[Path, typer.Option("-o", "--output", help="a .wav file")],
    model: Annotated[str, typer.Option(help="the model that encoded it")] = "mini",
) -> None:
    """Codes to audio. Example: audiogen codec decode IN.agc -o OUT.wav"""
    from audiogen.generation.transcode import decode_file

    print(f"{output}: {decode_file(codes, output, model):.2f} s", file=sys.stderr)
