"""What a running attempt reports: output, progress, and values to resume from.

`buffer` keeps a bounded amount per attempt; `writer` writes the buffers of the process to Postgres. The operations of
external agents use the same statements. This package imports no other part of the engine.
"""
