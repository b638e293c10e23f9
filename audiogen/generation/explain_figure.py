"""The picture of an explanation: panels over one time axis, and below them how far back attention reaches."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np

from audiogen.audio.features import _draw_mel, one_process_compiles
from audiogen.generation.explain import Explanation
from audiogen.interfaces import SECTIONS, Waveform
from audiogen.lm.conditioning import _FREE, _PARTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 100
_WIDTHS_INCHES = (14.0, 40.0)
_HEIGHTS_INCHES = (2.4, 2.2, 2.0, 1.7, 1.7, 2.8, 3.3)  # of the panels with their titles, the sound first
_INCHES_A_SECOND = 0.2
_MARGIN_INCHES = 3.5  # of axis labels and colour bars, about
_TITLE_INCHES = 6.3
_REGION_COLOURS = ("#7b3294", "#2166ac", "#67a9cf", "#d1e5f0")


@dataclass(frozen=True)
class Picture:
    """A PNG, and where in it the time axis lies: shares of its width and height, from the upper left."""

    png: bytes
    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float


def prefix_names(explanation: Explanation) -> list[tuple[str, str]]:
    """(token of the prefix, what it was told), in the order of the tokens; the free ones are told nothing."""
    said, text = explanation.request.attributes, explanation.request.prompt.text
    told = {
        "style": said.style,
        "moods": ", ".join(said.moods),
        "instruments": ", ".join(said.instruments),
        "key": said.key and str(said.key),
        "tempo": said.tempo_bpm and f"{said.tempo_bpm:g} bpm",
        "metre": said.beats_per_bar and f"{said.beats_per_bar} beats a bar",
        "energy": f"{said.energy:.2f}" if said.energy is not None else "",
        "text": f"{len(text.split())} words",
    }
    return [(name, told[name] or "not told") for name in _PARTS] + [
        (f"free {number}", "") for number in range(1, _FREE + 1)
    ]


def draw(explanation: Explanation, audio: Waveform | None) -> Picture:
    """All panels as a PNG; `audio`, the clip's sound, is drawn where it is given."""
    drawing, panels = figure(explanation, audio)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png")
    width, height = (round(inches * _DPI) for inches in drawing.get_size_inches())
    first, last = panels[0].get_window_extent(), panels[-1].get_window_extent()
    return Picture(
        buffer.getvalue(), width, height, first.x0 / width, first.x1 / width, 1 - first.y1 / height,
        1 - last.y0 / height,
    )  # fmt: skip


def figure(explanation: Explanation, audio: Waveform | None) -> tuple[Figure, list[Axes]]:
    """The figure, and its panels over time from the upper to the lowest."""
    from matplotlib.figure import Figure

    least, most = _WIDTHS_INCHES
    width = min(max(least, explanation.seconds * _INCHES_A_SECOND), most)
    heights = _HEIGHTS_INCHES if audio is not None else _HEIGHTS_INCHES[1:]
    above, below = sum(heights) + 0.7, 2.5
    drawing = Figure(figsize=(width, above + below), dpi=_DPI, layout="constrained")
    grid = drawing.add_gridspec(2, 2, height_ratios=(above, below), width_ratios=(least, width - least + 0.01))
    upper, lower = drawing.add_subfigure(grid[0, :]), drawing.add_subfigure(grid[1, 0])
    panels: list[Axes] = list(upper.subplots(len(heights), 1, sharex=True, height_ratios=heights))
    request = explanation.request
    upper.suptitle(
        f"{shorten(request.prompt.text, 160)}\n{explanation.seconds:g} s, seed {request.seed}, "
        f"guidance {request.sampling.guidance:g}",
        x=0.5 * least / width, wrap=True, parse_math=False,
    )  # fmt: skip
    width_pixels = (width - _MARGIN_INCHES) * _DPI
    rest = iter(panels)
    if audio is not None:
        panel = next(rest)
        one_process_compiles(_draw_mel)(panel, audio)
        panel.tick_params(axis="y", labelsize=7)
        _title(panel, "what came out: mel spectrogram of the clip")
    _draw_score(next(rest), explanation, width_pixels)
    _draw_entropy(next(rest), explanation)
    _draw_guidance(next(rest), explanation)
    _draw_regions(next(rest), explanation)
    _draw_prefix(next(rest), explanation)
    _draw_lags(next(rest), explanation)
    _draw_bar_lines(panels, explanation, width_pixels)
    panels[-1].set(xlabel="seconds of the clip", xlim=(0, explanation.seconds))
    panels[-1].locator_params(axis="x", nbins=round(width))
    for panel in panels:
        panel.tick_params(labelbottom=True)
    _draw_profile(lower.subplots(), explanation)
    return drawing, panels


# --- the panels -----------------------------------------------------------------------------------------------------


def _title(panel: Axes, text: str) -> None:
    panel.set_title(text, loc="left", fontsize=10)


def _legend(panel: Axes) -> None:
    """Beside the title, where a wide picture shows it first."""
    from matplotlib.transforms import ScaledTranslation

    beside = panel.transAxes + ScaledTranslation(_TITLE_INCHES, 0, panel.figure.dpi_scale_trans)
    panel.legend(
        loc="lower left", bbox_to_anchor=(0, 0.98), bbox_transform=beside, ncols=4, fontsize=8, frameon=False
    )  # fmt: skip


def _heatmap(panel: Axes, values: np.ndarray, height: float, explanation: Explanation, label: str, **told: Any) -> None:
    """`values` `[rows, N]` from 0 up to `height`, with a colour bar."""
    extent = (0.0, values.shape[1] * explanation.column_seconds, 0.0, height)
    told = {"cmap": "magma", "interpolation": "nearest"} | told
    image = panel.imshow(values, origin="lower", aspect="auto", extent=extent, **told)
    beyond = "max" if values.max() > image.norm.vmax else "neither"
    panel.figure.colorbar(image, ax=panel, label=label, pad=0.01, extend=beyond)


def _draw_score(panel: Axes, explanation: Explanation, width_pixels: float) -> None:
    """Four rows: sections, chords, beats and bars, energy."""
    score, seconds = explanation.request.score, explanation.seconds
    pixels_a_second = width_pixels / seconds
    _title(panel, "what the score said")
    sections = [(start, label, f"C{SECTIONS.index(label)}", label) for start, label in score.sections]
    chords = [
        (chord.start_seconds, chord.symbol, "0.9" if chord.root is None else _hue(chord.root), str(chord.root))
        for chord in score.chords
    ]
    for base, row in ((3.0, sections), (2.0, chords)):
        starts = [start for start, *_ in row] + [seconds]
        for (start, name, colour, _), end in zip(row, starts[1:], strict=True):
            panel.broken_barh([(start, end - start)], (base + 0.06, 0.88), color=colour, alpha=0.45, linewidth=0)
            if (end - start) * pixels_a_second > 7 * len(name) + 4 and start < seconds:
                panel.text((start + min(end, seconds)) / 2, base + 0.5, name, ha="center", va="center", fontsize=8)
    _draw_beats(panel, explanation, pixels_a_second)
    if score.energy:
        times, levels = zip(*score.energy, strict=True)
        at = np.unique(np.clip([0.0, *times, seconds], 0, seconds))
        panel.fill_between(at, 0.05 + 0.85 * np.interp(at, times, levels), 0.05, color="C1", alpha=0.6, linewidth=0)
    said = (len(score.energy), len(score.beats_seconds), len(score.chords), len(score.sections))
    names = ("energy 0…1", "beats, bars", "chords", "sections")
    labels = [name if count else f"{name}: not told" for name, count in zip(names, said, strict=True)]
    panel.set_yticks([0.5, 1.5, 2.5, 3.5], labels)
    panel.set(ylim=(0, 4))
    panel.hlines([1, 2, 3], 0, seconds, color="0.8", linewidth=0.6)


def _draw_beats(panel: Axes, explanation: Explanation, pixels_a_second: float) -> None:
    score, seconds = explanation.request.score, explanation.seconds
    beats, bars = (times[(times >= 0) & (times < seconds)] for times in (score.beats_seconds, score.downbeats_seconds))
    if len(beats) / seconds * 4 < pixels_a_second:
        panel.vlines(beats, 1.05, 1.3, color="0.5", linewidth=0.8)
    if len(bars) / seconds * 4 < pixels_a_second:
        panel.vlines(bars, 1.05, 1.5, color="0.1", linewidth=1.2)
    every = 1
    while len(bars) / every * 24 > pixels_a_second * seconds:
        every *= 2
    for number in range(0, len(bars), every):
        panel.text(bars[number], 1.53, str(number + 1), fontsize=7, ha="left", va="bottom", clip_on=True)


def _hue(root: int) -> Any:
    """Colours around the circle of fifths: neighbours in harmony look alike."""
    import matplotlib

    return matplotlib.colormaps["hsv"](root * 7 % 12 / 12)


def _draw_entropy(panel: Axes, explanation: Explanation) -> None:
    books, most = len(explanation.entropy_bits), math.log2(explanation.codebook_size)
    _title(panel, "how open each code was: entropy of the guided distribution at temperature 1, before top-k")
    _heatmap(panel, explanation.entropy_bits, books, explanation, f"bits (≤ {most:g})", vmin=0, vmax=most)
    panel.set_yticks(np.arange(books) + 0.5, [str(book + 1) for book in range(books)], fontsize=8)
    panel.set_ylabel("codebook\n(1 coarsest)")


def _draw_guidance(panel: Axes, explanation: Explanation) -> None:
    guidance = explanation.request.sampling.guidance
    _title(panel, "how much being told the prompt and the score mattered (sum over codebooks)")
    told, pushed = explanation.told_bits.sum(0), explanation.pushed_bits.sum(0)
    panel.plot(explanation.times_seconds, told, linewidth=1, label="KL(told ‖ not told)")
    panel.plot(explanation.times_seconds, pushed, linewidth=1, label=f"KL(guidance {guidance:g} ‖ told)")
    panel.set(ylabel="bits a frame", ylim=(0, None))
    _legend(panel)


def _draw_regions(panel: Axes, explanation: Explanation) -> None:
    shares = explanation.regions(explanation.prefix, explanation.lags)
    _title(panel, "where attention goes (mean of layers and heads)")
    panel.stackplot(
        explanation.times_seconds, 100 * shares.T, labels=explanation.region_names, colors=_REGION_COLOURS, linewidth=0
    )  # fmt: skip
    panel.set(ylabel="% of attention", ylim=(0, 100))
    _legend(panel)


def _draw_prefix(panel: Axes, explanation: Explanation) -> None:
    names = [
        f"{name}: {shorten(told, 26, placeholder=' …')}" if told else name for name, told in prefix_names(explanation)
    ]
    _title(panel, "attention on each token of the prefix, the prompt's part")
    shares = 100 * explanation.prefix.T[::-1]
    most = max(float(np.percentile(shares, 97)), 1e-3)  # the first frames have little else to look at
    _heatmap(panel, shares, len(names), explanation, "% of attention", vmin=0, vmax=most)
    panel.set_yticks(np.arange(len(names)) + 0.5, names[::-1], fontsize=8)


def _draw_lags(panel: Axes, explanation: Explanation) -> None:
    """Lag over time, logarithmic colours; what a position cannot reach is blank."""
    rate, reach = explanation.frame_rate, explanation.profile.shape[1]
    shares = 100 * explanation.lags.T[:reach]
    last = np.minimum((np.arange(shares.shape[1]) + 1) * explanation.stride, explanation.frames)
    shown = np.ma.masked_array(shares, (np.arange(reach)[:, None] >= last) | (shares <= 0))
    low, high = (max(float(np.percentile(shown.compressed(), share)), 1e-4) for share in (5, 99.8))
    from matplotlib.colors import LogNorm

    _title(panel, "how far back it looks: attention on the codes so many seconds earlier")
    norm = LogNorm(low, max(high, low * 1.1))
    _heatmap(panel, shown, reach / rate, explanation, "% of attention a frame", norm=norm)
    panel.set(ylabel="seconds back", ylim=(0, reach / rate))
    for lag in explanation.musical_lags:
        panel.axhline(lag.seconds, color="white", linestyle=":", linewidth=0.9, alpha=0.8)
    right = panel.secondary_yaxis("right")
    right.set_yticks([lag.seconds for lag in explanation.musical_lags], [lag.name for lag in explanation.musical_lags])
    right.tick_params(labelsize=8)


def _draw_bar_lines(panels: list[Axes], explanation: Explanation, width_pixels: float) -> None:
    bars = explanation.request.score.downbeats_seconds
    if len(bars) * 6 > width_pixels:
        return
    for panel in panels:
        colour = "white" if panel.get_images() else "black"
        for bar in bars[(bars > 0) & (bars < explanation.seconds)]:
            panel.axvline(bar, color=colour, linewidth=0.6, alpha=0.3)


def _draw_profile(panel: Axes, explanation: Explanation) -> None:
    """Attention by distance, the mean over the clip: does it look back a bar?"""
    profile, rate = 100 * explanation.profile, explanation.frame_rate
    seconds = (np.arange(profile.shape[1]) + 1) / rate
    _title(
        panel,
        "does it look back a beat, a bar? attention by distance (×: against half a beat around)",
    )
    for index, layer in enumerate(profile):
        panel.plot(seconds, layer, color="0.7", linewidth=0.6, label="each layer" if index == 0 else None)
    panel.plot(seconds, profile.mean(0), color="C0", linewidth=1.4, label="mean of the layers")
    for lag in explanation.musical_lags:
        panel.axvline(lag.seconds, color="C3", linestyle=":", linewidth=1)
        panel.annotate(
            f"{lag.name}\n×{lag.ratio:.1f}", (lag.seconds, 1), xycoords=("data", "axes fraction"), xytext=(3, -3),
            textcoords="offset points", va="top", fontsize=8, color="C3",
        )  # fmt: skip
    panel.set(yscale="log", ylabel="% of attention\na frame", xlabel="seconds back", xlim=(0, seconds[-1]))
    _legend(panel)
