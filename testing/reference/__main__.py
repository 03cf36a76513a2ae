"""`python -m testing.reference`: write everything that is made from the code into `docs/`."""

from __future__ import annotations

from testing.reference.documents import documents


def main() -> None:
    for path, text in documents().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
