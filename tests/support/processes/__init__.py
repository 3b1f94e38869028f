"""Fleets in processes of their own: hosts, installations, and what makes their processes fail or die."""
