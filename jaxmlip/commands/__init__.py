"""The subcommands of the program ``jaxmlip``: each parses, calls the library, prints; no physics."""
