"""`python -m atw`, the same as `atw`."""

from atw.commands import main

if __name__ == "__main__":
    main()
