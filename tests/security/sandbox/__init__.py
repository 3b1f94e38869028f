"""Attacks by work on what is outside its sandbox: folders, networks, programs and the kernel."""
