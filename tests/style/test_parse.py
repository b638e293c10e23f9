from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES, AudiogenError, Key, Prompt
from audiogen.style.parse import explain, merge, parse


@pytest.mark.parametrize("style", STYLES)
def test_every_style_by_name(style: str) -> None:
    said = parse(f"A {style} track.")
    assert said.attributes.style == style
    assert said.unknown == ()


@pytest.mark.parametrize("mood", MOODS)
def test_every_mood_by_name(mood: str) -> None:
    assert parse(f"{mood} music").attributes.moods == (mood,)


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_every_instrument_by_name_alone_plural_and_left_out(instrument: str) -> None:
    assert parse(f"with {instrument}").attributes.instruments == (instrument,)
    assert instrument in parse(f"with {instrument}s").attributes.instruments
    without = parse(f"without any {instrument}")
    assert (without.attributes.instruments, without.excluded) == ((), (instrument,))


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("chillhop to study to", "lo-fi"),
        ("Lo-Fi hip-hop", "lo-fi"),
        ("jazzy lofi", "lo-fi"),
        ("slow dub techno", "techno"),
        ("dnb", "drum and bass"),
        ("drum'n'bass", "drum and bass"),
        ("Drum & Bass", "drum and bass"),
        ("a film score", "cinematic"),
        ("an epic trailer", "cinematic"),
        ("sad piano sonata", "classical piano"),
        ("folk rock", "rock"),
        ("bossa nova", "jazz"),
        ("LOFI HOUSE", "house"),
        ("dark ambient drone", "ambient"),
        ("singer-songwriter", "folk"),
    ],
)
def test_paraphrases_of_styles(text: str, style: str) -> None:
    said = parse(text)
    assert said.attributes.style == style
    assert not any("more than one style" in note for note in said.notes)


@pytest.mark.parametrize(
    ("text", "moods"),
    [
        ("gloomy", ("dark",)),
        ("uplifting and relaxing", ("hopeful", "calm")),
        ("spooky, suspenseful", ("mysterious", "tense")),
        ("laid-back", ("calm",)),
    ],
)
def test_paraphrases_of_moods(text: str, moods: tuple[str, ...]) -> None:
    assert parse(text).attributes.moods == moods


@pytest.mark.parametrize(
    ("text", "bpm"),
    [
        ("118 bpm", 118),
        ("118bpm", 118),
        ("at 90 beats per minute", 90),
        ("tempo 90", 90),
        ("tempo: 92.5", 92.5),
        ("techno at 128, dark", 128),
        ("techno at 128.5 bpm.", 128.5),
        ("techno at 128.", 128),
        ("a 174-BPM roller", 174),
        ("between 80 and 90 bpm", 85),
        ("80-90 bpm", 85),
        ("largo", 50),
        ("allegro", 138),
        ("slow lo-fi at 100 bpm", 100),
    ],
)
def test_tempo(text: str, bpm: float) -> None:
    assert parse(text).attributes.tempo_bpm == bpm


def test_tempo_words_are_places_in_the_range_of_the_style() -> None:
    tempos = {word: parse(f"{word} drum and bass").attributes.tempo_bpm for word in ("slow", "mid-tempo", "fast")}
    assert 160 <= tempos["slow"] < tempos["mid-tempo"] < tempos["fast"] <= 180  # type: ignore[operator]
    assert parse("slow ambient").attributes.tempo_bpm < 80  # type: ignore[operator]
    assert parse("not too fast folk").attributes.tempo_bpm == parse("mid-tempo folk").attributes.tempo_bpm
    assert any("both" in note for note in parse("fast, 100 bpm").notes)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("D minor", "D minor"),
        ("techno in F#", "F# major"),
        ("Bbm", "Bb minor"),
        ("A-flat major", "Ab major"),
        ("c sharp minor", "C# minor"),
        ("in the key of E", "E major"),
        ("key: Gm", "G minor"),
        ("key:Gm", "G minor"),
        ("in A", "A major"),
        ("E♭ major", "Eb major"),
        ("rock in Em at 120", "E minor"),
        ("C maj", "C major"),
    ],
)
def test_key(text: str, key: str) -> None:
    assert parse(text).attributes.key == Key.parse(key)


@pytest.mark.parametrize(
    "text", ["in a dark room", "a minor key", "I am happy", "plan B", "in H# minor", "be a band in a bar"]
)
def test_no_key_is_imagined(text: str) -> None:
    assert parse(text).attributes.key is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30 seconds", 30),
        ("a 30-second clip", 30),
        ("45s", 45),
        ("3 minutes", 180),
        ("three minutes long", 180),
        ("2:30", 150),
        ("1:02:30", 3750),
        ("2 min 30", 150),
        ("2m30s", 150),
        ("2 minutes and 5 seconds", 125),
        ("half a minute", 30),
        ("two and a half minutes", 150),
        ("1.5 min", 90),
        ("10 hours", 36000),
        ("1h 30m", 5400),
    ],
)
def test_length(text: str, seconds: float) -> None:
    assert parse(f"jazz, {text}").attributes.seconds == seconds


def test_a_decade_is_no_length() -> None:
    said = parse("80s rock")
    assert said.attributes.seconds is None
    assert said.unknown == ("80s",)
    assert any("80 seconds" in note for note in said.notes)


@pytest.mark.parametrize(("text", "beats"), [("waltz", 3), ("3/4", 3), ("6/8", 3), ("4/4 time", 4), ("in 5/4", 5)])
def test_metre(text: str, beats: int) -> None:
    assert parse(f"folk {text}").attributes.beats_per_bar == beats


@pytest.mark.parametrize(
    ("text", "instruments", "excluded"),
    [
        ("lo-fi, no drums, with flute", ("flute",), ("drums",)),
        ("house without piano, strings or brass", (), ("piano", "strings", "brass")),
        ("no drums and no bass but a harp", ("harp",), ("drums", "bass")),
        ("don't use bells. Piano please", ("piano",), ("bells",)),
        ("beatless ambient with pads", ("pad",), ("drums", "drum machine", "percussion")),
        ("piano but no piano", (), ("piano",)),
        ("no vocals, just cello", ("cello",), ()),
    ],
)
def test_negation(text: str, instruments: tuple[str, ...], excluded: tuple[str, ...]) -> None:
    said = parse(text)
    assert said.attributes.instruments == instruments
    assert said.excluded == excluded
    assert all(any(f"without {name}" in meaning for _, meaning in said.understood) for name in excluded)


def test_a_negated_style_or_mood_is_not_asked_for() -> None:
    said = parse("not sad, no techno")
    assert (said.attributes.style, said.attributes.moods) == (None, ())
    assert [meaning for _, meaning in said.understood] == ["not mood sad", "not style techno"]


def test_the_longest_phrase_wins() -> None:
    assert parse("electric piano").attributes.instruments == ("electric piano",)
    assert parse("synth bass and double bass").attributes.instruments == ("synth bass", "double bass")
    assert parse("drum and bass").attributes.instruments == ()


def test_guitar_depends_on_the_style() -> None:
    assert parse("guitar rock").attributes.instruments == ("electric guitar",)
    assert parse("folk with guitar").attributes.instruments == ("acoustic guitar",)


def test_the_first_style_wins_and_a_note_says_so() -> None:
    said = parse("jazz and techno")
    assert said.attributes.style == "jazz"
    assert any("jazz is taken, techno left" in note for note in said.notes)


def test_slips_of_the_keys_are_mended_and_told() -> None:
    said = parse("tecnho with paino and guitarr, ambiant")
    assert said.attributes.style == "techno"
    assert said.attributes.instruments == ("piano", "electric guitar")
    assert "'tecnho' is read as 'techno'" in said.notes


@pytest.mark.parametrize(
    "word", ["springs", "chair", "horse", "mental", "electronic", "plane", "grass", "bells4", "balls"]
)
def test_other_words_are_not_mended_into_nonsense(word: str) -> None:
    assert word in parse(f"{word} techno").unknown


def test_unknown_words_are_listed_in_order_and_explained() -> None:
    said = parse("Music for a detective walking through Oslo, jazz with vocals")
    assert said.unknown == ("detective", "walking", "Oslo", "vocals")
    shown = explain(said)
    assert "'jazz' → style jazz" in shown
    assert "not understood: detective, walking, Oslo, vocals" in shown
    assert "note: 'vocals': audiogen makes no voices" in shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" \t\n", "empty"),
        ("la " * 4000, "12,000 characters; the limit is 2,000"),
        ("techno\x00", "control character '\\x00' at position 6"),
        ("techno 7 bpm", "'7 bpm' in the prompt: expected a tempo of 40 to 240"),
        ("techno at 900 bpm", "40 to 240"),
        ("jazz, 0 seconds", "above 0 and at most 36000 seconds"),
        ("jazz, 11 hours", "above 0 and at most 36000 seconds"),
        ("9" * 1900 + " bpm", "40 to 240"),
    ],
)
def test_bad_prompts(text: str, words: str) -> None:
    with pytest.raises(AudiogenError) as caught:
        parse(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flags_win_over_the_text_and_a_note_says_so() -> None:
    said = merge(parse("techno, 118 bpm, D minor, 30 seconds"), bpm=128, key="F#m", seconds=30)
    assert isinstance(said, Prompt)
    assert (said.attributes.tempo_bpm, said.attributes.key, said.attributes.seconds) == (128, Key(6, "minor"), 30)
    assert said.attributes.style == "techno"
    assert said.notes == (
        "tempo: the flag's 128 wins over the text's 118",
        "key: the flag's F# minor wins over the text's D minor",
    )
    assert merge(parse("jazz"), style="rock", beats_per_bar=3).attributes.beats_per_bar == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"bpm": 7}, "--bpm 7: expected a tempo of 40 to 240"),
        ({"bpm": float("nan")}, "--bpm nan"),
        ({"key": "H#"}, "--key H#: 'H#' is no key"),
        ({"seconds": 0}, "--seconds 0"),
        ({"seconds": -3}, "--seconds -3"),
        ({"seconds": float("nan")}, "--seconds nan"),
        ({"style": "polka"}, "--style polka: unknown, choose one of ambient"),
        ({"beats_per_bar": 0}, "--beats-per-bar 0: expected 2 to 12"),
    ],
)
def test_bad_flags(flags: dict, words: str) -> None:
    with pytest.raises(AudiogenError) as caught:
        merge(parse("jazz"), **flags)
    assert words in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(["no", "without", ",", "or", "and", "3", "/", "4", ":", "30", "s", "in", "A", "minor", "key"])
        | st.sampled_from(["flat", "bpm", "at", "90", "techno", "guitar", "-", "'", "#", "beats", "half", "minute"])
        | st.text(max_size=5),
        max_size=20,
    )
)
def test_any_text_is_read_or_refused(words: list[str]) -> None:
    try:
        said = parse(" ".join(words))
    except AudiogenError:
        return
    assert set(said.attributes.instruments).isdisjoint(said.excluded)
    assert said == parse(" ".join(words))
