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
th:first-child, td.text { text-align: left; } td small { color: #666; } img { max-width: 100%; }
audio { height: 32px; width: 260px; } .scroll { overflow-x: auto; }
"""
_PLAYERS = 60
_COLOURS = ("#3465a4", "#cc6600", "#4e9a06", "#75507b", "#a40000", "#555753", "#c4a000", "#06989a")


def write_page(
    report: dict[str, Any], clips: Mapping[str, Sequence[Clip]], folders: dict[str, Path], path: Path
) -> None:
    """Write the page; `folders` tells where the clips of each system lie, for the players."""
    columns = report["systems"]
    first = next(iter(columns))
    parts = [
        f"<h1>Evaluation of {escape(first)}</h1>",
        f"<p>{report['prompts']['count']} prompts (list {report['prompts']['hash']}), audiogen {report['audiogen']}. "
        "Each figure is a mean with its 95 % interval (bootstrap over prompts). <b>real</b> is the ceiling: what the "
        "same estimators say of held-out music with known labels; <b>codec</b> the same music through the codec; "
        "<b>floor</b> what the clips score for other prompts' wishes.</p>",
        _picture(_marks_figure(report)),
        _marks_table(report),
        "<h2>By kind of prompt</h2>",
        _kinds_table(columns[first]),
        "<h2>Sound, form, distance</h2>",
        "<p>Distances are of the tagger's vectors to those of held-out music; lower is nearer. Figures of different "
        "numbers of windows do not compare.</p>",
        _sound_table(report),
        *_training(report),
        "<h2>Failures</h2>",
        _failures(columns),
        "<h2>Tempo and style, asked and heard</h2>",
        _picture(_heard_figure(clips[first])),
        "<h2>Clips</h2>",
        _players(clips[first], folders[first], path.parent),
    ]
    title = f"Evaluation of {first}"
    write_text(
        path,
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<body>{''.join(parts)}</body></html>\n",
    )


def _columns(report: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    reference = [(name, report["reference"][name]) for name in ("real", "codec")]
    return [*report["systems"].items(), *reference]


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


def _marks_table(report: dict[str, Any]) -> str:
    columns = _columns(report)
    first = next(iter(report["systems"].values()))
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


def _sound_table(report: dict[str, Any]) -> str:
    columns = _columns(report)
    rows = []
    for group, names in (("sound", SOUND), ("form", FORM)):
        for name, text in names.items():
            digits = 0 if name == "bandwidth_hz" else 5 if name == "clipped_share" else 3 if name == "novelty" else 2
            rows.append(_row(text, [_cell(told[group].get(name), digits) for _, told in columns]))
    for name, text in (("frechet", "Fréchet distance"), ("kernel", "kernel distance"), ("rows", "windows")):
        values = [told["distance"].get(name) for _, told in columns]
        rows.append(_row(text, [f"<td>{'' if value is None else f'{value:g}'}</td>" for value in values]))
    for name, text in (("takes", "takes of a prompt apart"), ("prompts", "prompts apart")):
        values = [told["diversity"].get(name) for _, told in columns]
        rows.append(_row(text, [f"<td>{'' if value is None else f'{value:.3f}'}</td>" for value in values]))
    return _table(["measure", *(name for name, _ in columns)], rows)


def _training(report: dict[str, Any]) -> list[str]:
    parts: list[str] = []
    held_out = report.get("held_out")
    if held_out is not None:
        columns = [(name, told["copying"]) for name, told in report["systems"].items()] + [("held-out music", held_out)]
        rows = [_row("fingerprint agreeing, share", [_cell(told["fingerprint_share"], 3) for _, told in columns])]
        if any("longest_run_frames" in told for _, told in columns):
            rows.append(
                _row("longest run of codes, frames", [_cell(told.get("longest_run_frames")) for _, told in columns])
            )
        rows.append(_row("suspects", [f"<td>{len(told['suspects'])}</td>" for _, told in columns]))
        parts += ["<h2>Copies of the training music</h2>", _table(["", *(name for name, _ in columns)], rows)]
        for name, told in columns[:-1]:
            for each in told["suspects"][:20]:
                like = f"{escape(each['file'])} is like {escape(each['piece'])}, {each['share']:.2f}"
                parts.append(f"<p>{escape(name)}: {like}</p>")
    if report.get("model"):
        told = report["model"]
        rows = [
            _row(
                name, [f"<td>{each['bits_a_second']:.1f}</td>", *(f"<td>{bits:.1f}</td>" for bits in each["codebooks"])]
            )
            for name, each in told.items()
            if isinstance(each, dict)
        ]
        books = len(next(each for each in told.values() if isinstance(each, dict))["codebooks"])
        header = ["bits a second", "all", *(str(book + 1) for book in range(books))]
        parts += [f"<h2>Cross-entropy on {told['pieces']} held-out pieces</h2>", _table(header, rows)]
    return parts


def _failures(columns: dict[str, Any]) -> str:
    rows = [
        _row(name, [f'<td class="text">{escape(each[what])}</td>' for what in ("file", "problem")])
        for name, told in columns.items()
        for each in told["failures"]
    ]
    extra = [
        f"<p>{escape(name)}: {len(told['not_asked_for'])} files belong to no prompt, such as "
        f"{escape(told['not_asked_for'][0])}.</p>"
        for name, told in columns.items()
        if told.get("not_asked_for")
    ]
    return (_table(["system", "file", "problem"], rows) if rows else "<p>None.</p>") + "".join(extra)


def _players(clips: Sequence[Clip], folder: Path, beside: Path) -> str:
    step = max(1, len(clips) // _PLAYERS)
    rows = []
    for clip in clips[::step][:_PLAYERS]:
        if clip.measured is None:
            continue
        link = _link(folder / clip.prompt.file(clip.take), beside)
        tags = clip.measured["tags"]
        heard = f"{next(iter(tags['style']))}, {tags['tempo_bpm']['heard']:.0f} bpm, {tags['key']['heard']}"
        rows.append(
            f'<tr><td class="text">{escape(clip.prompt.prompt)}</td><td class="text">{escape(heard)}</td>'
            f'<td><audio controls preload="none" src="{escape(link, quote=True)}"></audio></td></tr>'
        )
    return _table(["prompt", "heard", ""], rows)


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


def _marks_figure(report: dict[str, Any]) -> Any:
    """Bars of every mark with intervals; the ceiling as a line, the floor as a dotted one."""
    from matplotlib.figure import Figure

    columns = list(report["systems"].items())
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
            (report["reference"]["real"]["marks"].get(mark, {}).get("value"), "-", "real"),
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
