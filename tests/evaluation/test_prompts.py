from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from audiogen.evaluation.prompts import quick, read_prompts, shipped_prompts
from audiogen.interfaces import STYLES, AudiogenError


def test_the_list_is_what_it_says() -> None:
    prompts = shipped_prompts()
    kinds = Counter(prompt.kind for prompt in prompts)
    assert kinds == {"vocabulary": 120, "paraphrase": 60, "chinese": 20, "conflict": 20, "long": 20}
    assert len({prompt.prompt for prompt in prompts}) > 235
    assert {prompt.asked.style for prompt in prompts} == set(STYLES)
    assert all((prompt.seconds == 180) == (prompt.kind == "long") for prompt in prompts)
    assert len({prompt.seed(take) for prompt in prompts for take in (1, 2)}) == 480
    assert {prompt.kind for prompt in quick(prompts)} == {"vocabulary", "paraphrase", "chinese", "conflict"}
    assert len(quick(prompts)) == 24


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no prompts"),
        ("{", ":1: not a JSON object"),
        ("[1]", "expected a JSON object"),
        ('{"id": "a", "prompt": "x", "wishes": 1}', "wishes"),
        ('{"id": "../a", "prompt": "x"}', "id"),
        ('{"id": "a", "prompt": "x", "asked": {"style": "polka"}}', "polka"),
        ('{"id": "a", "prompt": "x", "asked": {"key": "H"}}', "no key"),
        ('{"id": "a", "prompt": "x", "seconds": 1}', "seconds"),
        ('{"id": "a", "prompt": "x"}\n\n{"id": "a", "prompt": "y"}', ":3: the id 'a' is used"),
        ('{"id": "a", "prompt": "x"}\n{"id": "a-1", "prompt": "y"}', "another's"),
        (50_000 * "[", "not a JSON object"),
    ],
)
def test_broken_lists_name_the_line(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "list.jsonl").write_text(text)
    with pytest.raises(AudiogenError, match=r"list\.jsonl") as error:
        read_prompts(tmp_path / "list.jsonl")
    assert problem in str(error.value)


def test_a_list_from_a_spreadsheet_begins_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text('{"id": "a", "prompt": "x", "asked": {"style": "folk"}}', encoding="utf-8-sig")
    assert read_prompts(tmp_path / "list.jsonl")[0].asked.style == "folk"
