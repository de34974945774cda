"""Texts to learn from have their answers where they say, and nothing of what builtin:needle asks."""

from __future__ import annotations

import random
import re

import pytest

from indexscope.storage.inputs.checkpoints import BUILTIN_FOLDER, load_tokenizer
from indexscope.storage.inputs.needle.haystack import Haystack
from indexscope.storage.inputs.needle.pieces import Pieces
from indexscope.storage.inputs.needle.practice import practice
from indexscope.storage.inputs.needle.words import ASKED, PRACTISED

BUILT_IN = load_tokenizer(BUILTIN_FOLDER / "baseline")
HAY = "The quick brown fox jumps over the lazy dog.\nPack my box with five dozen jugs.\n"


def text() -> Haystack:
    return Haystack([HAY * 20], Pieces(BUILT_IN))


def test_no_word_number_or_name_of_an_evaluation_is_practised() -> None:
    asked, practised = ({*words.qualities, *words.things} for words in (ASKED, PRACTISED))
    assert not asked & practised
    assert len(practised) == len(PRACTISED.qualities) + len(PRACTISED.things)
    assert not set(ASKED.digits) & set(PRACTISED.digits)
    assert ASKED.letters != PRACTISED.letters
    draw = random.Random(0)
    assert {len(PRACTISED.code(draw)) for _ in range(200)} == set(PRACTISED.digits)
    assert {len(ASKED.code(draw)) for _ in range(50)} == {7}
    assert len(PRACTISED.variable(draw)) == 4


def test_every_answer_stands_where_it_is_said_to_and_behind_what_it_needs() -> None:
    draw, kinds = random.Random(1), set()
    for _ in range(40):
        found = practice(text(), 513, draw)
        assert len(found.ids) == 513 and found.answers
        assert [span for pair in found.answers for span in pair] == sorted(
            span for pair in found.answers for span in pair
        )
        for first, last in found.answers:
            before, answer = BUILT_IN.decode(found.ids[:first]), BUILT_IN.decode(found.ids[first:last]).strip()
            if name := re.search(r"Answer: the code of the ([a-z ]+) is$", before):
                kinds.add("code")
                assert f"The code of the {name[1]} is {answer}." in before
            elif name := re.search(r"Answer: the codes of the ([a-z ]+) are$", before):
                kinds.add("codes")
                assert re.findall(f"A code of the {name[1]} is ([0-9]+)\\.", before) == answer.split(", ")
            elif name := re.search(r"what does the note of the ([a-z ]+) read\?\nAnswer: it reads: ([a-z ]+)$", before):
                kinds.add("note")
                assert f"The note of the {name[1]} reads: {name[2]} {answer}." in before
            else:
                value = re.search(r"Answer: ([A-Z]+) =$", before)[1]
                kinds.add("chain")
                links = dict(re.findall(r"The variable ([A-Z]+) = ([A-Z0-9]+)\.", before))
                while value in links:
                    value = links[value]
                assert value == answer
    assert kinds == {"code", "codes", "note", "chain"}


def test_the_same_draw_makes_the_same_text_and_too_short_a_one_is_refused() -> None:
    assert practice(text(), 400, random.Random(5)) == practice(text(), 400, random.Random(5))
    with pytest.raises(ValueError, match="40 tokens leave no room"):
        practice(text(), 40, random.Random(5))
