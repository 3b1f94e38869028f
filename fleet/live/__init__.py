"""Events as they happen, to whoever listens: by SSE and by WebSocket. How it looks from outside: docs/live.md."""
