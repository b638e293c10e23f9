"""The page of an explanation: one HTML file that needs nothing else, with the picture, its numbers and their means."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from audiogen import __version__
from audiogen.generation.explain import Explanation
from audiogen.generation.explain_figure import Picture, prefix_names
from audiogen.generation.models import LoadedModel
from audiogen.style.parse import Understanding, explain
from audiogen.style.plan_file import describe

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 0 1em; max-width: 1500px; color: #222; }
h1 { font-size: 1.4em; overflow-wrap: anywhere; } h2 { font-size: 1.1em; margin-top: 1.6em; }
pre { background: #f4f4f4; padding: .6em; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: .5em 2em .5em 0; } caption { text-align: left; font-weight: 600; }
th, td { border: 1px solid #ccc; padding: .15em .6em; text-align: right; } th:first-child { text-align: left; }
audio { width: 100%; } .tables { display: flex; flex-wrap: wrap; align-items: flex-start; }
#scroll { overflow-x: auto; } #picture { position: relative; cursor: crosshair; } #picture img { display: block; }
#cursor { position: absolute; width: 1px; background: #0a0; box-shadow: 0 0 0 1px #fff8; pointer-events: none; }
#readout { position: sticky; bottom: 0; background: #fffe; border-top: 1px solid #999; padding: .3em 0; }
#at { width: 100%; margin: 0; } #said { font-variant-numeric: tabular-nums; }
#meters { display: flex; flex-wrap: wrap; gap: 0 2em; font-size: 12px; line-height: 1.25; }
.meter { display: grid; grid-template-columns: max-content 90px 4em; column-gap: .5em; align-content: start; }
.meter b { grid-column: 1 / 4; } .bar { background: #eee; margin: 3px 0; } .bar i { display: block; height: 100%; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
"""

_SCRIPT = """
const data = JSON.parse(document.getElementById("data").textContent);
const byId = name => document.getElementById(name);
const picture = byId("picture"), cursor = byId("cursor"), at = byId("at"), sound = byId("sound");
cursor.style.top = 100 * data.picture.top + "%";
cursor.style.height = 100 * (data.picture.bottom - data.picture.top) + "%";
function add(parent, kind, text) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}
const rows = [];
for (const meter of data.meters) {
  const box = add(byId("meters"), "div");
  box.className = "meter";
  add(box, "b", meter.title);
  meter.names.forEach((name, row) => {
    add(box, "span", name);
    const bar = add(box, "span"), fill = add(bar, "i"), number = add(box, "span");
    bar.className = "bar"; number.className = "number"; fill.style.background = meter.colour;
    rows.push({meter, values: meter.values[row], fill, number});
  });
}
function show(seconds) {
  seconds = Math.min(Math.max(seconds, 0), data.seconds);
  const column = Math.min(Math.floor(seconds / data.columnSeconds), data.said.length - 1);
  at.value = seconds;
  const {left, right} = data.picture;
  cursor.style.left = 100 * (left + seconds / data.seconds * (right - left)) + "%";
  byId("said").textContent = seconds.toFixed(2) + " s \\u00b7 " + data.said[column];
  for (const row of rows) {
    const value = row.values[column];
    row.fill.style.width = Math.min(100, 100 * value / row.meter.most) + "%";
    row.number.textContent = value.toFixed(row.meter.digits);
  }
}
function seek(seconds) {
  show(seconds);
  if (sound) sound.currentTime = Math.min(Math.max(seconds, 0), data.seconds);
}
function secondsAt(event) {
  const box = picture.getBoundingClientRect(), along = (event.clientX - box.left) / box.width;
  return (along - data.picture.left) / (data.picture.right - data.picture.left) * data.seconds;
}
picture.addEventListener("pointermove", event => { if (!sound || sound.paused) show(secondsAt(event)); });
picture.addEventListener("click", event => seek(secondsAt(event)));
at.addEventListener("input", () => seek(Number(at.value)));
function follow() {
  show(sound.currentTime);
  const box = byId("scroll"), x = cursor.offsetLeft;
  if (x < box.scrollLeft || x > box.scrollLeft + box.clientWidth) box.scrollLeft = x - 100;
  if (!sound.paused) requestAnimationFrame(follow);
}
if (sound) sound.addEventListener("play", follow);
show(0);
"""

_READING = (
    ("entropy", "How many bits a code was undecided by. 0: the model saw one way on; the most: any code would do. Of "
     "the guided distribution at temperature 1; sampling then narrows it by temperature, top-k and top-p."),
    ("KL(told ‖ not told)", "By how many bits the distribution with prompt and score differs from that without either. "
     "High where the words and the plan decide what comes, low where the music so far does."),
    ("KL(guidance ‖ told)", "How much further guidance moved the distribution; 0 when guidance is 1."),
    ("attention", "Shares of what each position looked at, the mean of all layers and heads, with prompt and score. A "
     "share is no proof of use, but where there is none nothing came from."),
    ("how far back", "A line along a dotted beat or bar means that the model looks at what it played a beat or a bar "
     "before. × compares that distance with what lies half a beat to each side of it."),
    ("prefix", "One token for each thing that a prompt can say; the free ones are learned and the same for every "
     "prompt."),
)  # fmt: skip


def page(explanation: Explanation, picture: Picture, model: LoadedModel, audio_link: str | None) -> str:
    """The HTML. `audio_link` is a relative URL of the clip's WAV, None for no player. All text is escaped."""
    request = explanation.request
    title = escape(request.prompt.text)
    player = f'<audio id="sound" controls preload="metadata" src="{escape(audio_link)}"></audio>' if audio_link else ""
    image = base64.b64encode(picture.png).decode()
    reading = "".join(f"<dt><b>{escape(name)}</b></dt><dd>{escape(text)}</dd>" for name, text in _READING)
    data = json.dumps(_data(explanation, picture), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Seeing inside: {title}</title>
<style>{_STYLE}</style></head>
<body>
<h1>Seeing inside: {title}</h1>
<pre>{escape(_told(explanation, model))}</pre>
{player}
<div id="scroll"><div id="picture" style="width: {picture.width}px">
<img src="data:image/png;base64,{image}" width="{picture.width}" height="{picture.height}"
 alt="Panels over the seconds of the clip; the tables below hold their means."><div id="cursor"></div></div></div>
<div id="readout"><input id="at" type="range" min="0" max="{explanation.seconds:.6g}" step="any" value="0"
 aria-label="seconds of the clip"><div id="said"></div><div id="meters"></div></div>
<h2>Means over the clip</h2>
<div class="tables">{_tables(explanation)}</div>
<h2>How to read it</h2>
<dl>{reading}</dl>
<script id="data" type="application/json">{data.replace("<", chr(92) + "u003c")}</script>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _told(explanation: Explanation, model: LoadedModel) -> str:
    """What was asked, what was understood of it, what was planned, and how it was drawn."""
    request, sampling = explanation.request, explanation.request.sampling
    lines = [f"prompt: {request.prompt.text}"]
    if isinstance(request.prompt, Understanding):
        lines.append(explain(request.prompt))
    settings = ", ".join(f"{name.replace('_', '-')} {value:g}" for name, value in sampling.model_dump().items())
    lines += [
        f"sampling: {settings}; seed {request.seed}",
        f"model: {model.name} {model.fingerprint}, audiogen {__version__}; drawn in {model.precision}, read in float32",
        "",
        describe(request.score, request.attributes),
    ]
    return "\n".join(lines)


# --- numbers --------------------------------------------------------------------------------------------------------


def _data(explanation: Explanation, picture: Picture) -> dict[str, Any]:
    """What the script reads: a text and the values of each meter for every column."""
    books = len(explanation.entropy_bits)
    told, pushed = explanation.told_bits.sum(0), explanation.pushed_bits.sum(0)
    regions = 100 * explanation.regions(explanation.prefix, explanation.lags).T
    prefix = 100 * explanation.prefix.T
    bits = np.stack([told, pushed])
    return {
        "seconds": explanation.seconds,
        "columnSeconds": explanation.column_seconds,
        "picture": {name: round(getattr(picture, name), 6) for name in ("left", "right", "top", "bottom")},
        "said": _said(explanation),
        "meters": [
            _meter("entropy, bits", [f"codebook {book + 1}" for book in range(books)], explanation.entropy_bits,
                   float(np.log2(explanation.codebook_size)), "#e66101", 1),
            _meter("being told, bits a frame", ["told ‖ not told", "guidance ‖ told"], bits, float(bits.max()),
                   "#1f77b4", 2),
            _meter("attention, %", explanation.region_names, regions, 100.0, "#2166ac", 1),
            _meter("attention on the prefix, %", [name for name, _ in prefix_names(explanation)], prefix,
                   float(np.percentile(prefix, 97)), "#7b3294", 2),
        ],
    }  # fmt: skip


def _meter(
    title: str, names: Sequence[str], values: np.ndarray, most: float, colour: str, digits: int
) -> dict[str, Any]:
    rounded = np.round(values, digits + 1).tolist()
    return {
        "title": title, "names": list(names), "values": rounded, "most": max(most, 1e-9), "colour": colour,
        "digits": digits,
    }  # fmt: skip


def _said(explanation: Explanation) -> list[str]:
    """What the score says in the middle of each column, in words."""
    score, times = explanation.request.score, explanation.times_seconds
    bars, beats = score.downbeats_seconds, score.beats_seconds
    rows: list[list[str]] = []
    if score.sections:
        rows.append([score.sections[index][1] for index in _held([start for start, _ in score.sections], times)])
    if len(bars) and len(beats):
        bar, beat = _held(bars, times), _held(beats, times)
        first = _held(beats, np.asarray(bars) + 1e-6)[bar]
        rows.append([f"bar {a + 1}, beat {b + 1}" for a, b in zip(bar, beat - first, strict=True)])
    if score.chords:
        rows.append([score.chords[index].symbol for index in _held([c.start_seconds for c in score.chords], times)])
    if score.energy:
        points, levels = zip(*score.energy, strict=True)
        rows.append([f"energy {level:.2f}" for level in np.interp(times, points, levels)])
    return [" · ".join(parts) for parts in zip(*rows, strict=True)] if rows else ["no score"] * len(times)


def _held(starts: Sequence[float] | np.ndarray, times: np.ndarray) -> np.ndarray:
    """Which of `starts` holds at each of `times`."""
    return np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)


def _tables(explanation: Explanation) -> str:
    regions = 100 * explanation.regions(explanation.layer_prefix, explanation.layer_lags)
    prefix = 100 * explanation.layer_prefix
    bits = zip(explanation.entropy_bits, explanation.told_bits, explanation.pushed_bits, strict=True)
    parts = [
        _table(
            "Codebooks, bits", ("codebook", "entropy", "told ‖ not told", "guidance ‖ told"),
            ((f"{book}", *(f"{row.mean():.2f}" for row in rows)) for book, rows in enumerate(bits, 1)),
        ),
        _table(
            "Attention by layer, %", ("layer", *explanation.region_names),
            ((f"{layer}", *(f"{share:.1f}" for share in row)) for layer, row in enumerate(regions, 1)),
        ),
        _table(
            "Attention on the prefix, %", ("token", "told", "mean", "most in a layer"),
            (
                (name, told, f"{prefix[:, token].mean():.2f}", f"{prefix[:, token].max():.2f}")
                for token, (name, told) in enumerate(prefix_names(explanation))
            ),
        ),
    ]  # fmt: skip
    if explanation.musical_lags:
        rows = ((lag.name, f"{lag.seconds:.2f}", f"× {lag.ratio:.2f}") for lag in explanation.musical_lags)
        parts.append(_table("Looking back", ("distance", "seconds", "against around"), rows))
    return "\n".join(parts)


def _table(caption: str, names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"
