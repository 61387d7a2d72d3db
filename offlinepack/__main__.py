"""Run the command line: python -m offlinepack."""

from offlinepack.cli.main import main

main()
