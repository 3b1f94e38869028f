"""Attacks by workloads on what is outside their sandbox: folders, networks, programs and the kernel."""
