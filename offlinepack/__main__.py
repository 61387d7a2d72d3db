"""python -m offlinepack."""

from offlinepack.cli import main

main()
