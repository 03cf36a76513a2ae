"""All screens, in the order of the navigation. A new screen is a module here and a template of its name."""

from relay.admin.console.screens import (
    audit,
    configuration,
    dead,
    feedback,
    lane,
    message,
    messages,
    overview,
    queue,
    queues,
    workers,
)

SCREENS = (
    overview.SCREEN,
    lane.SCREEN,
    dead.SCREEN,
    messages.SCREEN,
    message.SCREEN,
    queues.SCREEN,
    queue.SCREEN,
    workers.SCREEN,
    configuration.SCREEN,
    feedback.SCREEN,
    audit.SCREEN,
)
