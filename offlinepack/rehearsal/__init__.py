"""Check before the transfer whether the targets of a bundle can install and run it."""
