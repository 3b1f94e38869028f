"""What somebody might try against the fleet, and what holds it off (docs/security.md)."""
