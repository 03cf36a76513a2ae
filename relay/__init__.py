"""Sends messages from Redis lists to push providers, at their pace, and loses nothing."""

__version__ = "0.1.0"
