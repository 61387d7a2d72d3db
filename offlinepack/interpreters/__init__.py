"""Find Python interpreters that build wheels for a target."""
