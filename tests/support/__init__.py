"""Test infrastructure: real services, in-process engines, hosts, API clients and checkers."""
