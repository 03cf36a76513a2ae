"""The pages of the documentation as programs: their blocks are run in the order of the page."""
