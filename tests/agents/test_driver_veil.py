"""However a stream is cut, the token of its attempt does not come through, and everything else does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.drivers.veil import Veil

SECRET = b"aabaab-" + b"a" * 25
TOKEN = f"srt_01hzzzzzzzzzzzzzzzzzzzzzzz.1.{SECRET.decode()}"

pieces = st.lists(st.sampled_from([SECRET, b"a", b"aab", SECRET[:31], SECRET[5:], b"\n", b"z"]), max_size=12)


@given(pieces, st.lists(st.integers(0, 200), max_size=8))
def test_a_stream_that_is_cut_anywhere(pieces: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(pieces)
    veil, told = Veil(TOKEN), []
    begin = 0
    for end in [*sorted(cut for cut in cuts if cut <= len(whole)), len(whole)]:
        told.append(veil.piece("stdout", whole[begin:end]))
        begin = end
    told.append(veil.rest("stdout"))
    assert b"".join(told) == whole.replace(SECRET, b"[redacted]")


def test_streams_are_apart_and_without_a_token_nothing_is_held_back() -> None:
    veil = Veil(TOKEN)
    assert veil.piece("stdout", SECRET[:9]) == b""
    assert veil.piece("stderr", SECRET[9:] + b"\n") == SECRET[9:] + b"\n"
    assert veil.rest("stdout") == SECRET[:9]
    assert Veil("").piece("stdout", SECRET) == SECRET
