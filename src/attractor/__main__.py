"""``python -m attractor``."""

from attractor.cli import main

if __name__ == "__main__":
    main()
