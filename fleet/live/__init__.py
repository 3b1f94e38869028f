"""Live event streams over SSE and WebSocket. For clients: docs/live.md."""
