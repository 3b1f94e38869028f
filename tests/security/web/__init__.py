"""Attacks through browsers, proxies and addresses of clients."""
