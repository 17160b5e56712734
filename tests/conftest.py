"""Hypothesis without a deadline (the first example compiles a kernel), the same examples on every run."""

from hypothesis import settings

settings.register_profile("phoenix", deadline=None, derandomize=True)
settings.load_profile("phoenix")
