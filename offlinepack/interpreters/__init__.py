"""Find Python interpreters for the builds of a target."""
