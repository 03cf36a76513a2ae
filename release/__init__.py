"""Builds and checks a release: `make release-check`. docs/how-to/release.md has the steps."""
