"""Confinement of a process by its operating system, on the standard library alone."""
