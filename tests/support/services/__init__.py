"""Servers that tests start: Redis, git, proxies and containers, with their certificates."""
