"""The head and the tail of a long output are kept, whatever characters it contains."""

from __future__ import annotations

from uuid import uuid4

import pytest

from missions.engine.output.buffer import OutputBuffer


def store(text: str, *, keep: int, chunk: int = 1_000) -> str:
    page = OutputBuffer(sortie=uuid4(), attempt=1, max_bytes=keep, on_open=lambda buffer: None)
    data = text.encode()
    for begin in range(0, len(data), chunk):
        page.output(stream="stdout", data=data[begin : begin + chunk])
    page.close()
    return "".join(piece.text for piece in page.pieces)


@pytest.mark.parametrize("character", ["x", "ü", "漢", "😀"])
def test_the_tail_is_measured_in_bytes(character: str) -> None:
    text = character * 100_000 + "the very end"
    result = store(text, keep=20_000)
    assert result.startswith(character)
    assert result.endswith(character * 2_000 + "the very end")
    size = len(text.encode())
    head_and_tail = 20_000 // len(character.encode())
    assert head_and_tail - 1_000 <= result.count(character) <= head_and_tail
    left_out = int(result.partition("… ")[2].partition(" bytes left out")[0].replace(",", ""))
    assert size - 20_000 <= left_out <= size - 18_000


def test_output_within_the_limit_is_complete() -> None:
    text = "".join(f"{number} – ünï\n" for number in range(1_000))
    assert store(text, keep=100_000, chunk=7) == text


def test_output_in_single_bytes_becomes_few_rows() -> None:
    """Each row takes more than 100 bytes besides its text, in the agent's memory and in the database."""
    page = OutputBuffer(sortie=uuid4(), attempt=1, max_bytes=100_000, on_open=lambda buffer: None)
    for number in range(200_000):
        page.output(stream="stdout", data=b"%d" % (number % 10))
    page.close()
    assert len(page.pieces) < 2_000
    text = "".join(piece.text for piece in page.pieces)
    assert text.startswith("0123456789")
    assert text.endswith("0123456789")
    assert 99_000 < text.count("5") * 10 < 101_000
