"""Test infrastructure: engines in the test's process, clients, and packages for Postgres, servers, fleets and work."""
