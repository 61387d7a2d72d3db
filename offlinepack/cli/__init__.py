"""The command line of offlinepack: one module for each group of commands, and their options."""
