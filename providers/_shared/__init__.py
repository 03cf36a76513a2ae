"""Helpers that several adapters share, or that one adapter keeps apart. Pure, if not stated otherwise."""
