"""Run the command line as `python -m pixie_proxy`."""

from pixie_proxy.cli import main

if __name__ == "__main__":
    main()
