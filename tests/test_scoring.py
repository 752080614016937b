"""Results that processes exchange, and the order of records."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aocr.evaluation import scoring
from aocr.evaluation.scoring import ImageScore, RecordOrder
from aocr.inference.recognizer import Result


def test_items_come_out_in_the_order_of_the_records() -> None:
    order: RecordOrder[str] = RecordOrder()
    order.add(1, "b")
    assert list(order.pop_ready()) == []
    order.add(3, "d")
    order.add(0, "a")
    assert list(order.pop_ready()) == ["a", "b"]
    order.add(2, "c")
    assert list(order.pop_ready()) == ["c", "d"]
    assert list(order.pop_ready()) == []


@pytest.mark.parametrize("text", ["Aé", ""])
def test_a_score_survives_the_exchange_between_processes(text: str) -> None:
    characters = tuple((character, 0.9) for character in text)
    attention = np.array([[0.25, 0.75], [1, 0]], np.float32)[:len(text)]
    result = Result(text, 0.45, characters, attention, 8)
    score = scoring._image_score(3, "Aé", "comment", result, 0.5)
    received = ImageScore(*json.loads(json.dumps(score))).result()
    assert received == result
    np.testing.assert_array_equal(np.asarray(received.attention), attention)
