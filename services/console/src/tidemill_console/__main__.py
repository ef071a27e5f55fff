"""The ``tidemill`` command."""

from tidemill_console.app import app


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
