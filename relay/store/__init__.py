"""The data model in Redis. All commands to relay's Redis are sent from here."""
