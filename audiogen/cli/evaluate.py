"""`audiogen evaluate`: does it obey, does it sound, does it last, does it copy; and blind listening."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from audiogen.cli.app import app, progress_bar
from audiogen.interfaces import AudiogenError


@app.command("evaluate")
def evaluate_command(
    sources: Annotated[list[str], typer.Argument(help="models, or folders of clips named ID-1.wav, ID-2.wav")],
    output: Annotated[Path, typer.Option("-o", "--output", help="a folder; with --listen an .html file")],
    prompts: Annotated[Path | None, typer.Option(help="a JSONL list of prompts; else the 240 of audiogen")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="24 of the prompts, one clip of each")] = False,
    baselines: Annotated[
        bool,
        typer.Option("--baselines", help="further models, the first without its score, without any prompt, retrieval"),
    ] = False,
    against: Annotated[Path | None, typer.Option(help="the training manifest: looks for copies of it")] = None,
    root: Annotated[Path | None, typer.Option(help="folder of the manifest's audio; else its own")] = None,
    codes: Annotated[Path | None, typer.Option(help="the manifest's prepared codes: cross-entropy, equal runs")] = None,
    clap: Annotated[
        str | None, typer.Option(help="CLAP's weights, for distances: a folder, or laion/larger_clap_music")
    ] = None,
    listen: Annotated[bool, typer.Option("--listen", help="a page for a blind test of two folders or more")] = False,
    listened: Annotated[
        bool, typer.Option("--listened", help="sum up the results of such a page: KEY.json RESULT.json …")
    ] = False,
    jobs: Annotated[int, typer.Option(min=0, help="processes that measure; 0 for one a core")] = 0,
) -> None:
    """Measure what a model, or a folder of clips, makes of a fixed list of prompts; resumed by the same command.

    Examples:

      audiogen evaluate mini -o report/

      audiogen evaluate mini theirs/ -o report/ --against data/manifest.jsonl --codes data/codes --baselines

      audiogen evaluate --listen ours/ theirs/ -o test.html
    """
    if listen or listened:
        from audiogen.evaluation import listening

        if listen:
            page, key = listening.write_test([Path(source) for source in sources], output)
            print(f"{page}: open it in a browser; {key} says what is what, keep it from the listeners", file=sys.stderr)
        else:
            listening.sum_up([Path(source) for source in sources], output)
            print(output, file=sys.stderr)
        return
    from audiogen.evaluation.prompts import TAKES, read_prompts, shipped_prompts
    from audiogen.evaluation.prompts import quick as fewer
    from audiogen.evaluation.suite import Subject, evaluate, is_clips

    wanted = shipped_prompts() if prompts is None else read_prompts(prompts)
    takes = 1 if quick else TAKES
    names = _names(sources)
    subjects = [
        Subject(name, source, takes=takes, baseline=baselines and number > 0 and not is_clips(source))
        for number, (name, source) in enumerate(zip(names, sources, strict=True))
    ]
    data = _training_data(against, root, codes, sources[0], output, jobs)
    ears = _clap(clap, data is not None)
    if baselines:
        if not is_clips(sources[0]):
            for way in ("without score", "unconditional"):
                subjects.append(Subject(f"{names[0]} {way}", sources[0], way, baseline=True))  # type: ignore[arg-type]
        if data is not None:
            subjects.append(Subject("retrieval", None, baseline=True))
    with _steps() as step:
        report = evaluate(
            subjects, fewer(wanted) if quick else wanted, output, step, against=data, clap=ears, jobs=jobs
        )
    _print(report)
    print(f"{output / 'report.html'}, {output / 'report.json'}", file=sys.stderr)


def _names(sources: list[str]) -> list[str]:
    names = [Path(source).name or Path(source).resolve().name for source in sources]
    if len(set(names)) < len(names):
        raise AudiogenError(f"{', '.join(sources)}: two of them have the same name; rename a folder")
    return names


def _training_data(
    against: Path | None, root: Path | None, codes: Path | None, first: str, output: Path, jobs: int
) -> Any:
    if against is None:
        if root is not None or codes is not None:
            raise AudiogenError("--root and --codes belong to a manifest: give it with --against")
        return None
    from audiogen.evaluation.training_data import TrainingData
    from audiogen.generation.models import model_folder

    own = Path(first) / "codec"
    codec = own if own.is_dir() else model_folder("mini") / "codec"
    return TrainingData(against, root or against.parent, codes, codec, output.parent / ".fingerprints", jobs)


def _clap(source: str | None, held_out: bool) -> Any:
    """The folder of CLAP's weights, or why there is none; None where nothing is held out to be far from."""
    if not held_out:
        if source is not None:
            raise AudiogenError("--clap measures distances to held-out music: give its manifest with --against")
        return None
    from audiogen.evaluation.clap import NotAtHand, find_weights

    try:
        return find_weights(source)
    except NotAtHand as reason:
        return reason


@contextmanager
def _steps() -> Iterator[Any]:
    """What each step is called → its bar; the bar before it is done then."""
    with ExitStack() as stack:

        def begin(what: str) -> Any:
            stack.close()
            return stack.enter_context(progress_bar(what))

        yield begin


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from audiogen.evaluation.clips import MARKS

    tables = [(f"{report['prompts']['count']} prompts", report["systems"])]
    if "baselines" in report:
        told = report["baselines"]
        tables.append((f"{told['prompts']} prompts, one clip of each", told["systems"]))
    for title, systems in tables:
        columns = [*systems.items(), ("real", report["reference"]["real"])]
        table = Table(title=title, title_justify="left")
        for number, name in enumerate(["asked for", *(name for name, _ in columns), "floor"]):
            table.add_column(name, justify="right" if number else "left")
        first = columns[0][1]
        for mark, text in MARKS.items():
            if mark in first["marks"]:
                cells = [told["marks"].get(mark, {}).get("value") for _, told in columns]
                cells.append(first["marks"][mark]["floor"])
                table.add_row(text, *("" if cell is None else f"{cell:.2f}" for cell in cells))
        Console().print(table)
        for name, told in systems.items():
            for what, those in (("could not be measured", told["failures"]), ("are at fault", told["faults"])):
                if those:
                    print(f"{name}: {len(those)} of {told['clips']} clips {what}", file=sys.stderr)
    if "missing" in report.get("clap", {}):
        print(f"CLAP: {report['clap']['missing']}", file=sys.stderr)
