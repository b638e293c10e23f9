"""The command line: thin, every import that weighs anything inside the command that needs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiogen.interfaces import AudiogenError

if TYPE_CHECKING:
    from audiogen.generation.generator import Generator, Request
    from audiogen.generation.render import Progress, Rendered

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)
data = typer.Typer(no_args_is_help=True, help="Manifests: check one, sum one up.")
codec = typer.Typer(no_args_is_help=True, help="Audio to codes and back.")
app.add_typer(data, name="data")
app.add_typer(codec, name="codec")
app.info.help = """Music from a style prompt.

Example: audiogen generate "slow dub techno, 118 bpm, D minor" --seconds 180 -o cue.wav
"""


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 1; Ctrl-C is 130 and leaves nothing half-written."""
    try:
        code = app(standalone_mode=False)  # typer turns Ctrl-C into the code 130
        if code:
            print("stopped; nothing half-written was left", file=sys.stderr)
            sys.exit(code)
    except AudiogenError as error:
        sys.exit(f"error: {error}")
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:  # typer's usage errors know how to show themselves
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            sys.exit(error.exit_code)
        raise


# --- generate -------------------------------------------------------------------------------------------------------


@app.command()
def generate(
    prompt: Annotated[str | None, typer.Argument(help='such as "warm lo-fi, 80 bpm, D minor"')] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="a .wav file; with --prompts a folder")] = None,
    model: Annotated[str, typer.Option(help="a shipped model, a folder, or such as facebook/musicgen-small")] = "mini",
    seconds: Annotated[float | None, typer.Option(help="length; else the prompt's, else 30")] = None,
    seed: Annotated[int | None, typer.Option(help="the same seed gives the same clip; random if not given")] = None,
    bpm: Annotated[float | None, typer.Option(help="tempo; wins over the prompt")] = None,
    key: Annotated[str | None, typer.Option(help="such as 'D minor'; wins over the prompt")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="how firmly the prompt is followed; 1 is off and faster")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="0 for greedy")] = None,
    plan: Annotated[Path | None, typer.Option(help="an edited plan, as --show-plan prints it")] = None,
    melody: Annotated[Path | None, typer.Option(help="a recording; a musicgen-melody follows its melody")] = None,
    show_plan: Annotated[bool, typer.Option("--show-plan", help="print the plan as JSON and stop")] = False,
    record: Annotated[Path | None, typer.Option("--from", help="the JSON of a clip: make it again")] = None,
    prompts: Annotated[Path | None, typer.Option(help="a batch: a prompt a line, or a CSV with a header")] = None,
    bits: Annotated[str, typer.Option(help="16, 24 or float")] = "16",
    plot: Annotated[bool, typer.Option("--plot", help="also a picture")] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="a WAV stream to standard output")] = False,
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
) -> None:
    """Make a clip, or a batch of clips.

    Examples:

      audiogen generate "happy house, 124 bpm" --seconds 60 -o house.wav --plot

      audiogen generate --prompts cues.csv -o cues/

      audiogen generate "jazz trio" --stdout | ffplay -
    """
    subtypes = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
    if bits not in subtypes:
        raise AudiogenError(f"--bits {bits}: expected 16, 24 or float")
    if [prompt, record, prompts].count(None) != 2:
        raise AudiogenError("give one of: a prompt, --prompts FILE, or --from FILE.json")
    if threads is not None and threads < 1:
        raise AudiogenError(f"--threads {threads}: expected 1 or more")
    values = {"guidance": guidance, "temperature": temperature}
    told: dict[str, Any] = {"bpm": bpm, "key": key}
    if prompts is not None:
        if stdout or show_plan or plan or melody:
            raise AudiogenError("--prompts makes files; --stdout, --show-plan, --plan, --melody go with a single clip")
        _batch(prompts, output, model, seconds, seed or 0, told, values, subtypes[bits], plot, threads)
        return
    _check_prompt(prompt, seconds, told)
    path = output or Path("clip.wav")
    if not stdout and not show_plan:
        _check_output(path)
    generator = _load(model, threads)
    from audiogen.generation.render import from_record, pipe, render

    if record is not None:
        request = from_record(record, generator)
    else:
        assert prompt is not None
        request = generator.request(
            prompt, seconds, seed, **told, sampling=_sampling(generator, values), melody=melody,
            score=_read_plan(plan) if plan else None,
        )  # fmt: skip
        _explain(request)
    if show_plan:
        _print_plan(request)
        return
    label = "piping" if stdout else str(path)
    with _progress(label) as progress:
        if stdout:
            rendered = pipe(generator, request, sys.stdout.buffer, progress)
        else:
            rendered = render(generator, request, path, subtypes[bits], plot, progress)  # type: ignore[arg-type]
    _report(path if not stdout else None, request, rendered)


def _check_prompt(prompt: str | None, seconds: float | None, told: dict[str, Any]) -> None:
    """Say what is wrong with the words before the model loads."""
    from audiogen.style.parse import merge, parse

    if prompt is not None:
        merge(parse(prompt), seconds=seconds, **told)


def _check_output(path: Path) -> None:
    import os

    if path.suffix.lower() != ".wav":
        raise AudiogenError(f"{path}: clips are WAV files; give a name that ends in .wav")
    if not path.parent.is_dir():
        raise AudiogenError(f"{path}: the folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise AudiogenError(f"{path}: the folder {path.parent} is not writable")
    if path.exists():
        raise AudiogenError(f"{path}: is there already; remove it or choose another name")


def _sampling(generator: Generator, values: dict[str, float | None]) -> Any:
    from audiogen.lm.sampling import Sampling

    given = {name: value for name, value in values.items() if value is not None}
    return Sampling.build(generator.model.sampling.model_dump() | given, "command line")


def _load(model: str, threads: int | None) -> Generator:
    from audiogen.generation.generator import Generator

    return Generator.from_pretrained(model, threads=threads)


def _read_plan(path: Path) -> Any:
    from audiogen.storage import read_json
    from audiogen.style.plan_file import score_from_json

    return score_from_json(read_json(path), str(path))


def _print_plan(request: Request) -> None:
    import json

    from audiogen.style.plan_file import describe, score_to_json

    print(describe(request.score, request.attributes), file=sys.stderr)
    print(json.dumps(score_to_json(request.score, request.attributes), indent=2))


def _explain(request: Request) -> None:
    from audiogen.style.parse import Understanding, explain

    if isinstance(request.prompt, Understanding):
        print(explain(request.prompt), file=sys.stderr)


def _report(path: Path | None, request: Request, rendered: Rendered) -> None:
    parts = [f"{rendered.seconds:g} s in {rendered.took_seconds:.1f} s", f"{rendered.real_time_factor:.1f} × real time"]
    parts.append(f"seed {request.seed}")
    if rendered.clipped_samples:
        parts.append(f"{rendered.clipped_samples} samples clipped")
    print(f"{path or 'piped'}: " + ", ".join(parts), file=sys.stderr)


@contextmanager
def _progress(label: str) -> Iterator[Progress]:
    """A bar on standard error with time left and the real-time factor."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[speed]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, began = bar.add_task(label, speed=""), time.monotonic()

        def show(done: float, total: float) -> None:
            speed = f"{done / (time.monotonic() - began):.1f} × real time"
            bar.update(task, completed=done, total=total, speed=speed)

        yield show


def _batch(
    prompts: Path, output: Path | None, model: str, seconds: float | None, seed: int, told: dict[str, Any],
    values: dict[str, float | None], subtype: str, plot: bool, threads: int | None,
) -> None:  # fmt: skip
    from audiogen.generation.render import is_done, read_jobs, render

    if output is None or not output.is_dir():
        raise AudiogenError(f"-o {output or ''}: --prompts needs a folder that exists")
    jobs = read_jobs(prompts, seconds, seed)
    for job in jobs:
        try:
            _check_prompt(job.prompt, job.seconds, {"bpm": job.bpm or told["bpm"], "key": job.key or told["key"]})
        except AudiogenError as error:
            raise AudiogenError(f"{prompts}: prompt {job.number}: {error}") from None
    open_jobs = [job for job in jobs if not is_done(job, output)]
    print(f"{len(jobs) - len(open_jobs)} of {len(jobs)} clips are there already", file=sys.stderr)
    if not open_jobs:
        return
    generator = _load(model, threads)
    for job in open_jobs:
        request = generator.request(
            job.prompt, job.seconds, job.seed, bpm=job.bpm or told["bpm"], key=job.key or told["key"],
            sampling=_sampling(generator, values),
        )  # fmt: skip
        path = job.path(output)
        with _progress(f"{job.number}/{len(jobs)} {path.name}") as progress:
            rendered = render(generator, request, path, subtype, plot, progress)  # type: ignore[arg-type]
        _report(path, request, rendered)


# --- recordings into others -----------------------------------------------------------------------------------------


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

    _check_output(output)
    with _progress(str(output)) as progress:
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

    _check_output(output)
    with _progress(str(output)) as progress:
        cut_hz = upsample(audio, output, codec_folder or model_folder("mini") / "codec", progress)
    print(f"{output}: as recorded up to {cut_hz:,.0f} Hz, made up above", file=sys.stderr)


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


# --- what there is --------------------------------------------------------------------------------------------------


@app.command()
def styles() -> None:
    """What the model knows: styles, moods and instruments. Example: audiogen styles"""
    from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES

    for name, values in (("styles", STYLES), ("moods", MOODS), ("instruments", INSTRUMENTS)):
        print(f"{name}: {', '.join(values)}")


@app.command()
def info() -> None:
    """Models, devices and versions. Example: audiogen info"""
    from importlib.metadata import version

    import torch

    from audiogen import __version__
    from audiogen.generation.models import SHIPPED, shipped_models

    print(f"audiogen {__version__}")
    for package in ("torch", "torchaudio", "librosa", "soundfile", "accelerate", "safetensors"):
        print(f"  {package} {version(package)}")
    print(f"models: {', '.join(shipped_models()) or 'none'} in {SHIPPED}")
    print(f"CPU: {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads")
    for index in range(torch.cuda.device_count()):
        print(f"GPU {index}: {torch.cuda.get_device_name(index)}")


@data.command("check")
def data_check(
    manifest: Path,
    root: Annotated[Path | None, typer.Option(help="folder of the audio; else the manifest's own")] = None,
    audio: Annotated[bool, typer.Option(help="also read each file's hash and header")] = True,
) -> None:
    """List every problem of a manifest. Example: audiogen data check data/starter/manifest.jsonl"""
    from audiogen.data.manifest import validate

    problems = validate(manifest, root or manifest.parent, audio)
    for problem in problems:
        print(problem)
    if problems:
        raise AudiogenError(f"{manifest}: {len(problems)} problems")
    print(f"{manifest}: no problems")


@data.command("summary")
def data_summary(manifest: Path) -> None:
    """Hours by split, style and licence. Example: audiogen data summary data/starter/manifest.jsonl"""
    import json

    from audiogen.data.manifest import read_manifest, summarise

    print(json.dumps(summarise(read_manifest(manifest)), indent=2))


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
