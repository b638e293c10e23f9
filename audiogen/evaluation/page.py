"""The report as one HTML page: tables, pictures, and players of the clips beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from audiogen.evaluation.clips import MARKS
from audiogen.evaluation.summary import FORM, SOUND
from audiogen.evaluation.systems import Clip
from audiogen.files import write_text

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 0 1em; max-width: 1300px; color: #222; }
h1 { font-size: 1.4em; } h2 { font-size: 1.15em; margin-top: 2em; } p { max-width: 75ch; }
table { border-collapse: collapse; margin: .8em 0; } caption { text-align: left; font-weight: 600; }
th, td { border: 1px solid #ccc; padding: .2em .6em; text-align: right; font-variant-numeric: tabular-nums; }
td { white-space: nowrap; } td.text { white-space: normal; }
th:first-child, td.text { text-align: left; } th:first-child { white-space: nowrap; }
td small { color: #666; } img { max-width: 100%; }
audio { height: 32px; width: 220px; } .scroll { overflow-x: auto; }
"""
_PLAYERS, _SUSPECTS = 60, 20
_COLOURS = ("#3465a4", "#cc6600", "#4e9a06", "#75507b", "#a40000", "#555753", "#c4a000", "#06989a")


def write_page(
    report: dict[str, Any], clips: Mapping[str, Sequence[Clip]], folders: dict[str, Path], path: Path
) -> None:
    """Write the page; `folders` tells where the clips of each system lie, for the players."""
    columns, reference = report["systems"], report["reference"]
    first = next(iter(columns))
    baselines = report.get("baselines", {"systems": {}})["systems"]
    everyone = columns | {name: told for name, told in baselines.items() if name not in columns}
    parts = [
        f"<h1>Evaluation of {escape(first)}</h1>",
        f"<p>{report['prompts']['count']} prompts (list {report['prompts']['hash']}), audiogen {report['audiogen']}. "
        "Each figure is a mean with its 95 % interval (bootstrap over prompts). <b>real</b> is the ceiling: what the "
        "same estimators say of held-out music with known labels; <b>codec</b> the same music through the codec; "
        "<b>floor</b> what the clips score for other prompts' wishes.</p>",
        _picture(_marks_figure(columns, reference)),
        _marks_table(columns, reference),
        "<h2>By kind of prompt</h2>",
        _kinds_table(columns[first]),
        "<h2>Sound, form, distance</h2>",
        "<p>Distances are of the tagger's vectors to those of held-out music; lower is nearer. Figures of different "
        "numbers of windows do not compare.</p>",
        _sound_table(columns, reference, report.get("clap", {})),
        *_baselines(report),
        *_training(report, everyone),
        "<h2>Clips that fail</h2>",
        _failures(everyone),
        "<h2>Tempo and style, asked and heard</h2>",
        _picture(_heard_figure(clips[first])),
        "<h2>Clips</h2>",
        _players(clips[first], folders, path.parent),
    ]
    title = f"Evaluation of {first}"
    write_text(
        path,
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<body>{''.join(parts)}</body></html>\n",
    )


def _columns(systems: dict[str, Any], reference: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [*systems.items(), *((name, reference[name]) for name in ("real", "codec"))]


def _cell(told: dict[str, Any] | None, digits: int = 2) -> str:
    if told is None or told["value"] is None:
        return "<td></td>"
    low, high = (f"{told[name]:.{digits}f}" for name in ("low", "high"))
    return f"<td>{told['value']:.{digits}f} <small>{low}…{high}</small></td>"


def _table(header: Sequence[str], rows: Sequence[str]) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in header)
    return f'<div class="scroll"><table><tr>{heads}</tr>{"".join(rows)}</table></div>'


def _row(name: str, cells: Sequence[str]) -> str:
    return f"<tr><th>{escape(name)}</th>{''.join(cells)}</tr>"


def _marks_table(systems: dict[str, Any], reference: dict[str, Any]) -> str:
    columns = _columns(systems, reference)
    first = next(iter(systems.values()))
    rows = []
    for mark, text in MARKS.items():
        if not any(mark in told["marks"] for _, told in columns):
            continue
        floor = first["marks"].get(mark, {}).get("floor")
        cells = [_cell(told["marks"].get(mark)) for _, told in columns]
        rows.append(_row(text, [*cells, f"<td>{floor:.2f}</td>" if floor is not None else "<td></td>"]))
    return _table(["asked for", *(name for name, _ in columns), "floor"], rows)


def _kinds_table(told: dict[str, Any]) -> str:
    kinds = told["by_kind"]
    rows = [
        _row(text, [_cell(kinds[kind].get(mark)) for kind in kinds])
        for mark, text in MARKS.items()
        if any(mark in values for values in kinds.values())
    ]
    return _table(["asked for", *kinds], rows)


def _sound_table(systems: dict[str, Any], reference: dict[str, Any], clap: dict[str, Any]) -> str:
    columns = _columns(systems, reference)
    rows = []
    for group, names in (("sound", SOUND), ("form", FORM)):
        for name, text in names.items():
            digits = 0 if name == "bandwidth_hz" else 5 if name == "clipped_share" else 3 if name == "novelty" else 2
            rows.append(_row(text, [_cell(told[group].get(name), digits) for _, told in columns]))
    for name, text in (("frechet", "Fréchet distance"), ("kernel", "kernel distance"), ("rows", "windows")):
        values = [told["distance"].get(name) for _, told in columns]
        rows.append(_row(text, [_number(value, "g") for value in values]))
    if "halves" in clap:
        halves = {"real": clap["halves"]}  # the ceiling: held-out music against held-out music
        for name, text in (
            ("frechet", "CLAP: Fréchet distance"),
            ("kernel", "CLAP: kernel distance"),
            ("rows", "CLAP: windows"),
        ):
            values = [told.get("clap", halves.get(column, {})).get(name) for column, told in columns]
            rows.append(_row(text, [_number(value, "g") for value in values]))
    for name, text in (("takes", "takes of a prompt apart"), ("prompts", "prompts apart")):
        values = [told["diversity"].get(name) for _, told in columns]
        rows.append(_row(text, [_number(value, ".3f") for value in values]))
    missing = f"<p>CLAP: {escape(clap['missing'])}.</p>" if "missing" in clap else ""
    return _table(["measure", *(name for name, _ in columns)], rows) + missing


def _number(value: float | None, form: str) -> str:
    return "<td></td>" if value is None else f"<td>{value:{form}}</td>"


def _baselines(report: dict[str, Any]) -> list[str]:
    if "baselines" not in report:
        return []
    told, reference = report["baselines"], report["reference"]
    systems, first = told["systems"], next(iter(told["systems"]))
    return [
        "<h2>Baselines</h2>",
        f"<p>Asked fewer prompts: {told['prompts']}, once each. The column {escape(first)} is of its clips of the same "
        "prompts.</p>",
        _picture(_marks_figure(systems, reference)),
        _marks_table(systems, reference),
        _sound_table(
            systems, reference, {name: each for name, each in report.get("clap", {}).items() if name == "halves"}
        ),
    ]


def _training(report: dict[str, Any], systems: dict[str, Any]) -> list[str]:
    parts: list[str] = []
    held_out = report.get("held_out")
    if held_out is not None:
        columns = [(name, told["copying"]) for name, told in systems.items()] + [("held-out music", held_out)]
        rows = [_row("fingerprint agreeing, share", [_cell(told["fingerprint_share"], 3) for _, told in columns])]
        if any("longest_run_frames" in told for _, told in columns):
            rows.append(
                _row("longest run of codes, frames", [_cell(told.get("longest_run_frames")) for _, told in columns])
            )
        rows.append(_row("suspects", [f"<td>{len(told['suspects'])}</td>" for _, told in columns]))
        parts += ["<h2>Copies of the training music</h2>", _table(["", *(name for name, _ in columns)], rows)]
        rows = [
            _row(
                name,
                [f'<td class="text">{escape(each[what])}</td>' for what in ("file", "piece")]
                + [_number(each["share"], ".2f")],
            )
            for name, told in columns[:-1]
            for each in told["suspects"][:_SUSPECTS]
        ]
        if rows:
            parts.append(_table(["system", "file", "is like", "share"], rows))
    if report.get("model"):
        told = report["model"]
        measured = {name: each for name, each in told.items() if isinstance(each, dict)}
        rows = [
            _row(
                f"divergence {name}" if name.startswith("from ") else name,
                [_number(value, ".1f") for value in (each["bits_a_second"], *each["codebooks"])],
            )
            for name, each in measured.items()
        ]
        books = len(next(iter(measured.values()))["codebooks"])
        header = ["bits a second", "all codebooks", *(str(book + 1) for book in range(books))]
        parts += [
            f"<h2>Cross-entropy on {told['pieces']} held-out pieces</h2>",
            "<p>Lower is better. Divergence (Kullback-Leibler) is of the first model from the others.</p>",
            _table(header, rows),
        ]
    return parts


def _failures(columns: dict[str, Any]) -> str:
    rows = [
        _row(name, [f'<td class="text">{escape(text)}</td>' for text in (each["file"], each[what])])
        for name, told in columns.items()
        for group, what in (("failures", "problem"), ("faults", "fault"))
        for each in told[group]
    ]
    extra = [
        f"<p>{escape(name)}: {len(told['not_asked_for'])} files belong to no prompt, such as "
        f"{escape(told['not_asked_for'][0])}.</p>"
        for name, told in columns.items()
        if told.get("not_asked_for")
    ]
    return (_table(["system", "file", "problem"], rows) if rows else "<p>None.</p>") + "".join(extra)


def _players(clips: Sequence[Clip], folders: dict[str, Path], beside: Path) -> str:
    """Clips of the first system, spread over the prompts, and beside each what the others made of the prompt."""
    step = max(1, len(clips) // _PLAYERS)
    rows = []
    for clip in clips[::step][:_PLAYERS]:
        if clip.measured is None:
            continue
        tags = clip.measured["tags"]
        heard = f"{next(iter(tags['style']))}, {tags['tempo_bpm']['heard']:.0f} bpm, {tags['key']['heard']}"
        cells = [f'<td class="text">{escape(text)}</td>' for text in (clip.prompt.prompt, heard)]
        for folder in folders.values():
            path = folder / clip.prompt.file(clip.take)
            link = escape(_link(path, beside), quote=True)
            cells.append(
                f'<td><audio controls preload="none" src="{link}"></audio></td>' if path.is_file() else "<td></td>"
            )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return _table(["prompt", f"heard in {next(iter(folders))}", *folders], rows)


def _link(path: Path, beside: Path) -> str:
    from urllib.parse import quote

    try:
        return quote(path.resolve().relative_to(beside.resolve()).as_posix())
    except ValueError:
        return path.resolve().as_uri()


def _picture(drawing: Any) -> str:
    data = io.BytesIO()
    drawing.savefig(data, format="png", metadata={"Software": None})
    return f'<div><img alt="" src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"></div>'


def _marks_figure(systems: dict[str, Any], reference: dict[str, Any]) -> Any:
    """Bars of every mark with intervals; the ceiling as a line, the floor as a dotted one."""
    from matplotlib.figure import Figure

    columns = list(systems.items())
    shown = [mark for mark in MARKS if any(mark in told["marks"] for _, told in columns)]
    drawing = Figure(figsize=(12, 4.6), dpi=90, layout="constrained")
    axis = drawing.subplots()
    width = 0.8 / len(columns)
    for number, (name, told) in enumerate(columns):
        for place, mark in enumerate(shown):
            value = told["marks"].get(mark)
            if value is None or value["value"] is None:
                continue
            at = place - 0.4 + (number + 0.5) * width
            label = name if mark == next(m for m in shown if m in told["marks"]) else None
            axis.bar(at, value["value"], width * 0.9, color=_COLOURS[number % len(_COLOURS)], label=label)
            axis.plot([at, at], [value["low"], value["high"]], color="black", linewidth=1)
    for place, mark in enumerate(shown):
        for value, style, label in (
            (reference["real"]["marks"].get(mark, {}).get("value"), "-", "real"),
            (columns[0][1]["marks"].get(mark, {}).get("floor"), ":", "floor"),
        ):
            if value is not None:
                first = label if place == 0 else None
                axis.plot(
                    [place - 0.45, place + 0.45], [value, value], style, color="black", linewidth=1.6, label=first
                )
    axis.set_xticks(range(len(shown)), [mark.replace("_", "\n") for mark in shown], fontsize=8)
    axis.set_ylim(min(0.0, axis.get_ylim()[0]), 1.05)
    axis.legend(fontsize=8, ncols=8, loc="upper center", bbox_to_anchor=(0.5, 1.12), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return drawing


def _heard_figure(clips: Sequence[Clip]) -> Any:
    """Tempo heard over tempo asked, and styles heard for each style asked."""
    import numpy as np
    from matplotlib.figure import Figure

    from audiogen.interfaces import STYLES

    drawing = Figure(figsize=(12, 5), dpi=90, layout="constrained")
    left, right = drawing.subplots(1, 2)
    pairs = [
        (clip.prompt.asked.tempo_bpm, clip.measured["tags"]["tempo_bpm"]["heard"])
        for clip in clips
        if clip.measured is not None and clip.prompt.asked.tempo_bpm
    ]
    for ratio in (0.5, 1.0, 2.0):
        left.plot([40, 200], [40 * ratio, 200 * ratio], color="#bbb", linewidth=1)
    if pairs:
        left.scatter(*zip(*pairs, strict=True), s=10, color=_COLOURS[0])
    left.set(xscale="log", yscale="log", xlim=(40, 200), ylim=(40, 260), xlabel="bpm asked", ylabel="bpm heard")
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_formatter("{x:.0f}")
        axis.set_minor_formatter("{x:.0f}")
    counts = np.zeros((len(STYLES), len(STYLES)))
    for clip in clips:
        if clip.measured is not None and clip.prompt.asked.style:
            heard = next(iter(clip.measured["tags"]["style"]))
            counts[STYLES.index(clip.prompt.asked.style), STYLES.index(heard)] += 1
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    right.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "black"
        right.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    right.set_xticks(range(len(STYLES)), STYLES, rotation=45, ha="right", fontsize=8)
    right.set_yticks(range(len(STYLES)), STYLES, fontsize=8)
    right.set(xlabel="heard", ylabel="asked")
    return drawing
