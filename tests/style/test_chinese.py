from __future__ import annotations

import pytest

from audiogen.interfaces import Key
from audiogen.style.chinese import in_english
from audiogen.style.parse import parse


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("悲伤的钢琴曲，每分钟70拍", "sad piano piece, 70 bpm"),
        ("快乐的浩室舞曲，124 bpm", "happy house, 124 bpm"),
        ("梦幻的环境音乐，带合成器铺底，升F大调", "dreamy ambient, with synth pad, F# major"),
        ("悲傷的鋼琴曲，每分鐘70拍", "sad piano piece, 70 bpm"),
        ("calm lo-fi, 80 bpm", "calm lo-fi, 80 bpm"),
    ],
)
def test_phrases(text: str, english: str) -> None:
    assert in_english(text) == english


def test_everything_that_a_prompt_can_say() -> None:
    found = parse("一段两分半的史诗电影配乐，降E小调，没有鼓，四三拍，速度 90")
    told = found.attributes
    assert told.style == "cinematic" and told.moods == ("epic",) and told.seconds == 150
    assert told.key == Key.parse("Eb minor") and told.beats_per_bar == 3 and told.tempo_bpm == 90
    assert found.excluded == ("drums",)
    assert found.text == "一段两分半的史诗电影配乐,降E小调,没有鼓,四三拍,速度 90"  # the user's own words


def test_what_is_not_known_is_told() -> None:
    assert parse("带唢呐的爵士").unknown == ("唢呐",)


def test_lengths() -> None:
    for text, seconds in (("90秒的爵士", 90), ("半分钟摇滚", 30), ("三分钟十秒的民谣", 190), ("1.5分钟techno", 90)):
        assert parse(text).attributes.seconds == seconds
