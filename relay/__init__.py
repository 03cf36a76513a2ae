"""Drains Redis lists into third-party push providers, at their pace, and loses nothing."""

__version__ = "0.1.0"
