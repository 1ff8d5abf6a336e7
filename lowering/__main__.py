"""`python -m pefslc`: the same as the console script."""

from pefslc.cli import main

if __name__ == "__main__":
    main()
