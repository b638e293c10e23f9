"""`audiogen generate`: a clip, several takes of one, or a batch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiogen.cli.app import app, check_output, progress_bar
from audiogen.interfaces import AudiogenError

if TYPE_CHECKING:
    from audiogen.generation.generator import Generator, Request
    from audiogen.generation.render import Job, Rendered


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
    top_p: Annotated[float | None, typer.Option(help="draw from the likeliest codes of this share; 1 is off")] = None,
    plan: Annotated[Path | None, typer.Option(help="an edited plan, as --show-plan prints it")] = None,
    melody: Annotated[Path | None, typer.Option(help="a recording; a musicgen-melody follows its melody")] = None,
    show_plan: Annotated[bool, typer.Option("--show-plan", help="print the plan as JSON and stop")] = False,
    record: Annotated[Path | None, typer.Option("--from", help="the JSON of a clip: make it again")] = None,
    prompts: Annotated[Path | None, typer.Option(help="a batch: a prompt a line, or a CSV with a header")] = None,
    takes: Annotated[int | None, typer.Option(help="so many clips of one plan, each scored in its JSON")] = None,
    best: Annotated[bool, typer.Option("--best", help="of the takes keep the one of the highest score")] = False,
    bits: Annotated[str, typer.Option(help="16, 24 or float")] = "16",
    plot: Annotated[bool, typer.Option("--plot", help="also a picture")] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="a WAV stream to standard output")] = False,
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
    precision: Annotated[str | None, typer.Option(help="int8, bfloat16 or float32; else the fastest there is")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; else a GPU where there is one")] = None,
) -> None:
    """Make a clip, several takes of one, or a batch of clips.

    Examples:

      audiogen generate "happy house, 124 bpm" --seconds 60 -o house.wav --plot

      audiogen generate "happy house, 124 bpm" --takes 8 --best -o house.wav

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
    if precision not in (None, "int8", "bfloat16", "float32"):
        raise AudiogenError(f"--precision {precision}: expected int8, bfloat16 or float32")
    if best and takes is None:
        raise AudiogenError("--best chooses among takes: give --takes N too")
    values = {"guidance": guidance, "temperature": temperature, "top_p": top_p}
    told: dict[str, Any] = {"bpm": bpm, "key": key}
    if prompts is not None:
        if stdout or show_plan or plan or melody or takes:
            raise AudiogenError(
                "--prompts makes files; --stdout, --show-plan, --plan, --melody, --takes go with a single clip"
            )
        jobs = _open_jobs(prompts, output, seconds, seed or 0, told)
        if jobs:
            assert output is not None
            _batch(jobs, output, _load(model, threads, precision, device), told, values, subtypes[bits], plot)
        return
    if takes is not None and (stdout or show_plan):
        raise AudiogenError("--takes makes files; --stdout and --show-plan go with a single clip")
    _check_prompt(prompt, seconds, told)
    path = output or Path("clip.wav")
    if takes is not None:
        from audiogen.generation.takes import check_takes

        check_takes(path, takes, best, plot)
    elif not stdout and not show_plan:
        check_output(path)
    from audiogen.generation.render import from_record, pipe, recorded_device, recorded_precision, render

    if record is not None:
        precision, device = precision or recorded_precision(record), device or recorded_device(record)
    generator = _load(model, threads, precision, device)
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
    if takes is not None:
        _takes(generator, request, path, takes, best, subtypes[bits], plot)
        return
    label = "piping" if stdout else str(path)
    with progress_bar(label) as progress:
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


def _sampling(generator: Generator, values: dict[str, float | None]) -> Any:
    from audiogen.lm.sampling import Sampling

    given = {name: value for name, value in values.items() if value is not None}
    return Sampling.build(generator.model.sampling.model_dump() | given, "command line")


def _load(model: str, threads: int | None, precision: str | None, device: str | None) -> Generator:
    from audiogen.generation.generator import Generator

    return Generator.from_pretrained(model, precision or "auto", threads, device or "auto")  # type: ignore[arg-type]


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


def _takes(
    generator: Generator, request: Request, path: Path, count: int, best: bool, subtype: str, plot: bool
) -> None:
    from audiogen.generation.takes import render_takes

    with progress_bar(f"{count} takes") as progress:
        made = render_takes(generator, request, path, count, best, subtype, plot, progress)  # type: ignore[arg-type]
    for take in made.takes:
        marks = ", ".join(f"{name} {mark:.2f}" for name, mark in take.scored.obeyed.items())
        kept = str(take.path) if take.path else "not kept"
        print(f"seed {take.request.seed}: score {take.scored.overall:.2f} ({marks}): {kept}", file=sys.stderr)
    print(f"{count} takes, {made.real_time_factor:.1f} × real time in sum", file=sys.stderr)


def _open_jobs(prompts: Path, output: Path | None, seconds: float | None, seed: int, told: dict[str, Any]) -> list[Job]:
    """Of a batch, what is not there yet; every line is checked first."""
    from audiogen.generation.render import is_done, read_jobs

    if output is None or not output.is_dir():
        raise AudiogenError(f"-o {output or ''}: --prompts needs a folder that exists")
    jobs = read_jobs(prompts, seconds, seed)
    for job in jobs:
        try:
            _check_prompt(job.prompt, job.seconds, {"bpm": job.bpm or told["bpm"], "key": job.key or told["key"]})
        except AudiogenError as error:
            raise AudiogenError(f"{prompts}: prompt {job.number}: {error}") from None
    left = [job for job in jobs if not is_done(job, output)]
    print(f"{len(jobs) - len(left)} of {len(jobs)} clips are there already", file=sys.stderr)
    return left


def _batch(
    jobs: list[Job], output: Path, generator: Generator, told: dict[str, Any], values: dict[str, float | None],
    subtype: str, plot: bool,
) -> None:  # fmt: skip
    from audiogen.generation.batch import render_batch

    sampling = _sampling(generator, values)
    clips = [
        (
            generator.request(
                job.prompt, job.seconds, job.seed, bpm=job.bpm or told["bpm"], key=job.key or told["key"],
                sampling=sampling,
            ),
            job.path(output),
        )
        for job in jobs
    ]  # fmt: skip

    def finished(index: int, rendered: Rendered) -> None:
        clipped = f", {rendered.clipped_samples} samples clipped" if rendered.clipped_samples else ""
        print(f"{clips[index][1]}: {rendered.seconds:g} s, seed {clips[index][0].seed}{clipped}", file=sys.stderr)

    with progress_bar(f"{len(jobs)} clips") as progress:
        render_batch(generator, clips, subtype, plot, progress, finished)  # type: ignore[arg-type]
