"""Options of the commands: one module for each group, whose flags become one value in the body of a command."""
