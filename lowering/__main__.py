"""`python -m pefslc` and the console script: an interrupt waits until the command line is there to answer it."""

from pefslc.files.interrupts import deferring_interrupts

__all__ = ["main"]


def main() -> None:
    try:
        with deferring_interrupts():
            from pefslc.console import cli
    except KeyboardInterrupt:
        cli.end_interrupted()  # it is loaded: that is what the signal waited for
    cli.main()


if __name__ == "__main__":
    main()
