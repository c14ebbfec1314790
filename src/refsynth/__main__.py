"""`python -m refsynth`: the same as the command `refsynth`."""

from refsynth.cli.app import main

if __name__ == "__main__":
    main()
