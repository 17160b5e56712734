"""Compiled kernels (numba) on Arrow buffers, shared by the stages."""
