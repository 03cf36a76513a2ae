"""All screens, in the order of the navigation. A new screen is a module here and a template of its name."""

from relay.admin.console.screens import audit, lane, overview, queues, workers

SCREENS = (overview.SCREEN, lane.SCREEN, queues.SCREEN, workers.SCREEN, audit.SCREEN)
