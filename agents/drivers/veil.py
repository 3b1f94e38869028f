"""Keeps an attempt's own token out of all that it says: out of its output, its reports, its result and its errors.

`env` in a command prints it easily, and what is printed is kept and shown to others. Files that the work gives out are
stored as they are.
"""

from __future__ import annotations

HIDDEN = b"[redacted]"
MOST = 64  # no token's secret has more bytes, so fewer are held back


class Veil:
    """Of one attempt. What tells the token from others is the part behind its last point; the rest everybody may know."""

    def __init__(self, token: str) -> None:
        self._secret = token.rpartition(".")[2].encode()
        self._held_back: dict[str, bytes] = {}

    def whole(self, data: bytes) -> bytes:
        """Something that is complete."""
        return data.replace(self._secret, HIDDEN) if self._secret else data

    def piece(self, stream: str, data: bytes) -> bytes:
        """The next piece of a stream that is cut anywhere: at most MOST bytes longer than this one. An end that may be the
        beginning of the token waits for the next piece."""
        if not self._secret:
            return data
        data = self.whole(self._held_back.pop(stream, b"") + data)
        for length in range(min(len(data), len(self._secret) - 1), 0, -1):
            if data.endswith(self._secret[:length]):
                self._held_back[stream] = data[-length:]
                return data[:-length]
        return data

    def rest(self, stream: str) -> bytes:
        """What waited in vain."""
        return self._held_back.pop(stream, b"")
